"""Ask an Enterprise Manager: connection, paging, filters, and the only files with the vendor's names."""
