"""Each question asked of Polars, of DuckDB and of plain pandas, written by hand for that engine.

Each peer may use what it knows: one target for all, no schedules, no holes, and a VM
stays in its policy. Where the frame has `uid` a peer looks for rows fetched twice, as the metric
does; in an archive of one source none can be, so none is looked for there. An engine's questions
are the methods of a class, named alike; a figure is of one method.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

TARGET = 15 * 60 * 1_000_000
TARGETS = [minutes * 60 * 1_000_000 for minutes in (1, 5, 15, 30, 60, 240)]
DAY = 86_400_000_000
NEEDED = ["vm", "policy", "created", "ended", "state", "result", "reason", "total_size", "as_of"]
"""Columns of an archive that the questions look at."""

HORIZON = 30
NORMAL_95 = 1.959963984540054


def interval_ranks(periods: Any, lib: Any = np) -> tuple[Any, Any]:
    """Ranks, from 0, of the slopes that bound a Theil-Sen slope (Sen 1968), no size coming twice."""
    pairs = periods * (periods - 1) / 2
    wide = NORMAL_95 * (periods * (periods - 1) * (2 * periods + 5) / 18) ** 0.5
    return lib.rint((pairs - wide) / 2) - 1, lib.rint((pairs + wide) / 2)


class InPolars:
    """Lazy frames, Enum labels, integers inside."""

    def __init__(self, frame: Any) -> None:
        import polars as pl

        self.pl, self.frame = pl, frame

    def _sessions(self) -> tuple[Any, Any]:
        """Sessions as integers, each once, and as_of."""
        pl, frame = self.pl, self.frame
        created, ended = pl.col("created").to_physical(), pl.col("ended").to_physical()
        names = frame.collect_schema().names()
        newest = pl.col("as_of").max().to_physical()
        if "as_of" not in names:
            newest = pl.max_horizontal(created.max(), ended.max())
        now = frame.lazy().select(newest).collect().item()
        if "uid" in names and frame.get_column("uid").n_unique() < frame.height:
            frame = frame.sort("as_of", maintain_order=True)
            frame = frame.unique("uid", keep="last", maintain_order=True)
        finished = ((pl.col("state") == "Completed") & (ended >= created)).fill_null(False)
        running = pl.col("state") == "InProgress"
        stop = pl.when(running).then(pl.coalesce(ended, now)).when(finished).then(ended)
        return frame.lazy().with_columns(
            created=created, ended=ended, finished=finished, running=running,
            stop=pl.min_horizontal(stop, now),
        ), now  # fmt: skip

    def _spans(self) -> tuple[Any, Any, Any]:
        pl = self.pl
        sessions, now = self._sessions()
        protects = pl.col("running") | (pl.col("finished") & (pl.col("result") != "Failed"))
        strict = pl.col("running") | (pl.col("result") == "Success")
        covers = sessions.filter(protects & (pl.col("stop") > pl.col("created"))).select(
            "policy", "vm", "created", "stop", strict=pl.when(strict).then("stop").otherwise(0)
        )
        # Observed time begins with the first attempt, which may have failed.
        begun = pl.col("created").min()
        attempts = sessions.filter(pl.col("state") != "Pending").group_by("vm")
        first = attempts.agg(
            policy=pl.col("policy").first(), created=begun, stop=begun,
            strict=pl.lit(0, dtype=pl.Int64),
        ).select("policy", "vm", "created", "stop", "strict")  # fmt: skip
        spans = (
            pl.concat([first, covers])
            .sort("vm", "created", "stop")
            .with_columns(
                finish=pl.col("created").shift(-1).over("vm").fill_null(now),
                reach=pl.col("stop").cum_max().over("vm"),
                reach_strict=pl.max_horizontal(
                    pl.col("strict").cum_max().over("vm"), pl.col("created").first().over("vm")
                ),
            )
            .with_columns(
                gap=(pl.col("finish") - pl.col("reach")).clip(lower_bound=0),
                late=(pl.col("finish") - pl.col("reach") - TARGET).clip(lower_bound=0),
                late_strict=(
                    pl.col("finish")
                    - pl.max_horizontal(pl.col("reach_strict") + TARGET, "created")
                ).clip(lower_bound=0),
            )
        )  # fmt: skip
        return sessions, spans, now

    def _verdicts(self, sessions: Any, by: Sequence[str]) -> Any:
        pl = self.pl
        result = pl.when("finished").then("result")
        return sessions.group_by(by).agg(
            sessions=pl.len(),
            success=(result == "Success").sum(),
            warning=(result == "Warning").sum(),
            failed=(result == "Failed").sum(),
            unknown=(result.is_null() | (result == "None")).sum(),
        )

    def _sums(self, spans: Any, by: Sequence[str], verdicts: Any) -> Any:
        pl = self.pl
        gap = pl.col("gap")
        sums = spans.group_by(by).agg(
            observed=(pl.col("finish") - pl.col("created")).sum(),
            exposed=gap.sum(),
            breached=pl.col("late").sum(),
            strict=pl.col("late_strict").sum(),
            gaps=(gap > 0).sum(),
            breaches=(gap > TARGET).sum(),
            worst_gap=gap.filter(gap > 0).max(),
        )
        finished = pl.col("success") + pl.col("warning") + pl.col("failed")
        return (
            verdicts.join(sums, on=by, how="left")
            .with_columns(
                adherence=1 - pl.col("breached") / pl.col("observed"),
                adherence_strict=1 - pl.col("strict") / pl.col("observed"),
                gap_adherence=1 - pl.col("breaches") / pl.col("gaps"),
                success_rate=pl.col("success") / finished,
            )
            .drop("strict")
            .sort(by)
            .collect()
        )

    def rpo_adherence(self) -> Any:
        sessions, spans, _ = self._spans()
        by = ["policy", "vm"]
        return self._sums(spans, by, self._verdicts(sessions, by))

    def rpo_adherence_daily(self) -> Any:
        """By policy and day: each span cut at midnight, its lateness dealt out to the days."""
        pl = self.pl
        sessions, spans, _ = self._spans()
        by = ["policy", "period"]
        first, last = pl.col("created") // DAY, (pl.col("finish") - 1) // DAY
        whole = pl.col("finish") - pl.col("reach")
        start = pl.max_horizontal("created", pl.col("period") * DAY)
        stop = pl.min_horizontal("finish", (pl.col("period") + 1) * DAY)
        after = [pl.max_horizontal(start, begun) for begun in (
            pl.col("reach"), pl.col("reach") + TARGET, pl.col("reach_strict") + TARGET)]  # fmt: skip
        exposed, late, strict = ((stop - begin).clip(lower_bound=0) for begin in after)
        sums = (
            spans.with_columns(period=pl.int_ranges(first, last + 1))
            .explode("period")
            .select(
                "policy", "period", observed=stop - start, exposed=exposed, breached=late,
                strict=strict, whole=whole,
            )
            .group_by(by)
            .agg(
                pl.col("observed", "exposed", "breached", "strict").sum(),
                gaps=(pl.col("exposed") > 0).sum(),
                breaches=((pl.col("exposed") > 0) & (pl.col("whole") > TARGET)).sum(),
                worst_gap=pl.col("whole").filter(pl.col("exposed") > 0).max(),
            )
        )  # fmt: skip
        verdicts = self._verdicts(sessions.with_columns(period=pl.col("created") // DAY), by)
        finished = pl.col("success") + pl.col("warning") + pl.col("failed")
        return (
            sums.join(verdicts, on=by, how="left")
            .with_columns(
                pl.col("sessions", "success", "warning", "failed", "unknown").fill_null(0),
                period=(pl.col("period") * DAY).cast(pl.Datetime("us", "UTC")),
                adherence=1 - pl.col("breached") / pl.col("observed"),
                adherence_strict=1 - pl.col("strict") / pl.col("observed"),
                gap_adherence=1 - pl.col("breaches") / pl.col("gaps"),
                success_rate=pl.col("success") / finished,
            )
            .drop("strict")
            .sort(by)
            .collect()
        )

    def gaps(self) -> Any:
        pl = self.pl
        sessions, spans, now = self._spans()
        lost = (
            sessions.filter(pl.col("finished") & (pl.col("result") == "Failed"))
            .select(
                "vm", "created", "stop",
                cause=pl.when((pl.col("reason") != "").fill_null(False))
                .then(pl.format("Failed: {}", "reason")).otherwise(pl.lit("Failed")),
            )
            .sort("created")
        )  # fmt: skip
        instant = pl.Datetime("us", "UTC")
        return (
            spans.filter(pl.col("gap") > 0)
            .select("vm", "policy", start="reach", end="finish", exposure="gap", breached="late",
                    open=pl.col("finish") == now)
            .with_columns(before=pl.col("end") - 1)
            .sort("before")
            .join_asof(lost, left_on="before", right_on="created", by="vm", check_sortedness=False)
            .with_columns(
                start=pl.col("start").cast(instant), end=pl.col("end").cast(instant),
                cause=pl.when((pl.col("stop") > pl.col("start")) | (pl.col("created") >= pl.col("start")))
                .then("cause").otherwise(pl.lit("no session")),
            )
            .drop("before", "created", "stop")
            .sort("start", "vm")
            .collect()
        )  # fmt: skip

    def durations(self) -> Any:
        pl = self.pl
        sessions, now = self._sessions()
        done = pl.col("finished") & (pl.col("ended") <= now)
        length = (pl.col("ended") - pl.col("created")).filter(done)
        return (
            sessions.group_by("policy", "vm")
            .agg(
                sessions=done.sum(),
                running=pl.col("running").sum(),
                unknown=(~done & ~pl.col("running")).sum(),
                mean=length.mean().round().cast(pl.Int64),
                median=length.median().round().cast(pl.Int64),
                p95=length.quantile(0.95, "linear").round().cast(pl.Int64),
                max=length.max(),
                total=length.sum(),
            )
            .sort("policy", "vm")
            .collect()
        )

    def _daily(self, by: Sequence[str], rolling: bool = True) -> Any:
        """Changes of size summed by day, carried forward by a running sum."""
        pl = self.pl
        sessions, now = self._sessions()
        first = sessions.select(pl.col("created").min() // DAY).collect().item()
        days = pl.LazyFrame({"day": np.arange(first, (now - 1) // DAY + 1)})
        sized = sessions.filter(
            pl.col("finished") & pl.col("total_size").is_not_null() & (pl.col("ended") <= now)
        )
        moves = (
            sized.select(*by, *({"vm"} - set(by)), "ended", "created", "total_size")
            .sort("vm", "ended", "created", "total_size")
            .with_columns(before=pl.col("total_size").shift(1).over("vm"))
            .group_by(*by, day=pl.col("ended") // DAY)
            .agg(
                sessions=pl.len(),
                vms=pl.col("before").is_null().sum(),
                change=(pl.col("total_size") - pl.col("before").fill_null(0)).sum(),
            )
        )
        running = sessions.group_by(*by, day=pl.col("created") // DAY).agg(
            running=pl.col("running").sum()
        )
        groups = sessions.select(by).unique()
        table = (
            groups.join(days, how="cross")
            .join(moves, on=[*by, "day"], how="left")
            .join(running, on=[*by, "day"], how="left")
            .sort(*by, "day")
            .with_columns(
                pl.col("sessions", "running").fill_null(0),
                vms=pl.col("vms").fill_null(0).cum_sum().over(by),
                size=pl.col("change").fill_null(0).cum_sum().over(by),
            )
            .with_columns(size=pl.when(pl.col("vms") > 0).then("size"))
        )
        if not rolling:
            return table
        return table.with_columns(
            rolling=pl.col("size").cast(pl.Float64).rolling_mean(7).over(by),
            period=(pl.col("day") * DAY).cast(pl.Datetime("us", "UTC")),
        ).drop("change", "day")

    def sizes(self) -> Any:
        return self._daily(["policy"]).collect()

    def sizes_by_vm(self) -> Any:
        return self._daily(["policy", "vm"]).collect()

    def _trend(self, by: Sequence[str]) -> Any:
        pl = self.pl
        daily = self._daily(by, rolling=False).filter(pl.col("size").is_not_null())
        # The first day and the last are not whole.
        daily = daily.collect()
        edges = daily.select(pl.col("day").min().alias("a"), pl.col("day").max().alias("z")).row(0)
        whole = daily.lazy().filter(
            (pl.col("day") > self._first_day()) & (pl.col("day") < edges[1])
        ).select(*by, "day", "size")  # fmt: skip
        n = pl.col("periods").cast(pl.Float64)
        pairs, wide = n * (n - 1) / 2, NORMAL_95 * (n * (n - 1) * (2 * n + 5) / 18).sqrt()
        low, high = ((pairs - wide) / 2).round() - 1, ((pairs + wide) / 2).round()
        rise = (pl.col("size_right") - pl.col("size")) / (pl.col("day_right") - pl.col("day"))
        slopes = (
            whole.join(whole, on=by)
            .filter(pl.col("day_right") > pl.col("day"))
            .group_by(by)
            .agg(slopes=rise.sort())
        )
        ends = whole.group_by(by).agg(
            periods=pl.len(), size=pl.col("size").sort_by("day").last()
        )  # fmt: skip
        return (
            ends.join(slopes, on=by)
            .with_columns(
                slope=pl.col("slopes").list.median(),
                slope_low=pl.col("slopes").list.get(low.cast(pl.Int64)),
                slope_high=pl.col("slopes").list.get(high.cast(pl.Int64)),
            )
            .drop("slopes")
            .with_columns(projected=pl.col("size") + pl.col("slope") * HORIZON)
            .with_columns(growth=pl.col("projected") / pl.col("size") - 1)
            .sort(by)
            .collect()
        )

    def _first_day(self) -> Any:
        first = self.pl.col("created").min().to_physical() // DAY
        return self.frame.lazy().select(first).collect().item()

    def size_trend(self) -> Any:
        return self._trend(["policy"])

    def size_trend_by_vm(self) -> Any:
        return self._trend(["policy", "vm"])

    def what_if(self) -> Any:
        pl = self.pl
        _, spans, _ = self._spans()
        gap = pl.col("gap")
        one = spans.select(
            observed=(pl.col("finish") - pl.col("created")).sum(),
            exposed=gap.sum(),
            gaps=(gap > 0).sum(),
            **{f"b{goal}": (gap - goal).clip(lower_bound=0).sum() for goal in TARGETS},
            **{f"n{goal}": (gap > goal).sum() for goal in TARGETS},
        ).collect()
        return pl.concat(
            one.select(
                "observed", "exposed", "gaps", rpo=pl.lit(goal, pl.Int64), breached=f"b{goal}",
                breaches=f"n{goal}",
            ).with_columns(
                adherence=1 - pl.col("breached") / pl.col("observed"),
                gap_adherence=1 - pl.col("breaches") / pl.col("gaps"),
            )
            for goal in TARGETS
        )  # fmt: skip


class ScannedByPolars(InPolars):
    """The same of an archive: scanned anew for each question, for the columns that it needs."""

    def __init__(self, folder: str) -> None:
        import polars as pl

        super().__init__(pl.scan_parquet(f"{folder}/sessions/*/*.parquet").select(NEEDED))


class InDuckDB:
    """SQL on a table in memory, labels as ENUM."""

    def __init__(self, connection: Any) -> None:
        self.sql = connection

    def _ask(self, query: str) -> Any:
        return self.sql.sql(query).to_arrow_table()

    def _sessions(self) -> str:
        names = {row[0] for row in self.sql.execute("describe sessions").fetchall()}
        source = "sessions"
        now = "max(epoch_us(as_of))"
        if "as_of" not in names:
            now = "greatest(max(epoch_us(created)), max(epoch_us(ended)))"
        if "uid" in names:
            twice = self.sql.execute("select count(distinct uid) < count(uid) from sessions")
            if twice.fetchall()[0][0]:
                source = "(from sessions qualify row_number() over (partition by uid order by as_of desc) = 1)"
        self.now = now = self.sql.execute(f"select {now} from sessions").fetchall()[0][0]
        reason = "reason" if "reason" in names else "null as reason"
        return f"""
            facts as (
                select policy, vm, epoch_us(created) as created, epoch_us(ended) as ended, result,
                    total_size, {reason}, state = 'InProgress' as running, state = 'Pending' as pending,
                    coalesce(state = 'Completed' and ended >= created, false) as finished,
                from {source}),
            known as (
                select *, least({now}, case when running then coalesce(ended, {now})
                    when finished then ended end) as stop from facts)"""

    def _spans(self) -> str:
        return f"""{self._sessions()},
            spans as (
                select policy, vm, created, {self.now} as now,
                    coalesce(lead(created) over w, {self.now}) as finish,
                    max(stop) over w as reach,
                    greatest(max(strict) over w, first_value(created) over w) as reach_strict
                from (
                    select policy, vm, created, stop,
                        case when running or result = 'Success' then stop end as strict
                    from known
                    where (running or (finished and result != 'Failed')) and stop > created
                    union all
                    select first(policy), vm, min(created), min(created), null
                    from known where not pending group by vm)
                window w as (partition by vm order by created, stop
                             rows between unbounded preceding and current row)),
            aged as (
                select *, greatest(finish - reach, 0) as gap,
                    greatest(finish - reach - {TARGET}, 0) as late,
                    greatest(finish - greatest(reach_strict + {TARGET}, created), 0) as late_strict
                from spans)"""  # fmt: skip

    _verdicts = """count(*) as sessions,
        count(*) filter (finished and result = 'Success') as success,
        count(*) filter (finished and result = 'Warning') as warning,
        count(*) filter (finished and result = 'Failed') as failed,
        count(*) filter (not finished or coalesce(result = 'None', true)) as unknown"""

    _shares = """1 - breached / observed as adherence, 1 - strict / observed as adherence_strict,
        1 - breaches / gaps as gap_adherence,
        success / nullif(success + warning + failed, 0) as success_rate"""

    def rpo_adherence(self) -> Any:
        return self._ask(f"""with {self._spans()},
            verdicts as (select policy, vm, {self._verdicts} from known group by all),
            sums as (
                select policy, vm, sum(finish - created)::bigint as observed, sum(gap)::bigint as exposed,
                    sum(late)::bigint as breached, sum(late_strict)::bigint as strict,
                    count(*) filter (gap > 0) as gaps,
                    count(*) filter (gap > {TARGET}) as breaches,
                    max(gap) filter (gap > 0) as worst_gap
                from aged group by all)
            select * exclude (strict), {self._shares}
            from verdicts left join sums using (policy, vm) order by policy, vm""")

    def rpo_adherence_daily(self) -> Any:
        return self._ask(f"""with {self._spans()},
            verdicts as (
                select policy, created // {DAY} as day, {self._verdicts} from known group by all),
            days as (select *, unnest(range(created // {DAY}, (finish - 1) // {DAY} + 1)) as day from aged),
            cut as (
                select policy, day, finish - reach as whole, reach, reach_strict,
                    greatest(created, day * {DAY}) as start, least(finish, (day + 1) * {DAY}) as stop
                from days),
            pieces as (
                select policy, day, whole, stop - start as observed,
                    greatest(stop - greatest(start, reach), 0) as exposed,
                    greatest(stop - greatest(start, reach + {TARGET}), 0) as breached,
                    greatest(stop - greatest(start, reach_strict + {TARGET}), 0) as strict
                from cut),
            sums as (
                select policy, day, sum(observed)::bigint as observed, sum(exposed)::bigint as exposed,
                    sum(breached)::bigint as breached, sum(strict)::bigint as strict,
                    count(*) filter (exposed > 0) as gaps,
                    count(*) filter (exposed > 0 and whole > {TARGET}) as breaches,
                    max(whole) filter (exposed > 0) as worst_gap
                from pieces group by all)
            select policy, make_timestamp(day * {DAY}) as period, coalesce(sessions, 0) as sessions,
                coalesce(success, 0) as success, coalesce(warning, 0) as warning,
                coalesce(failed, 0) as failed, coalesce(unknown, 0) as unknown,
                sums.* exclude (policy, day, strict), {self._shares}
            from sums left join verdicts using (policy, day) order by policy, day""")

    def gaps(self) -> Any:
        return self._ask(f"""with {self._spans()},
            lost as (
                select vm, created, stop, case when reason != '' then 'Failed: ' || reason
                    else 'Failed' end as cause
                from known where finished and result = 'Failed'),
            open as (from aged where gap > 0)
            select open.vm, policy, make_timestamptz(reach) as start, make_timestamptz(finish) as end,
                gap as exposure, late as breached, finish = now as open,
                case when lost.stop > reach or lost.created >= reach then cause else 'no session' end as cause
            from open asof left join lost on open.vm = lost.vm and open.finish > lost.created
            order by start, open.vm""")

    def durations(self) -> Any:
        return self._ask(f"""with {self._sessions()},
            lasted as (
                select policy, vm, running, finished and ended <= {self.now} as done,
                    case when done then ended - created end as length from known)
            select policy, vm, count(*) filter (done) as sessions, count(*) filter (running) as running,
                count(*) filter (not done and not running) as unknown,
                round(avg(length))::bigint as mean, round(quantile_cont(length, 0.5))::bigint as median,
                round(quantile_cont(length, 0.95))::bigint as p95, max(length) as max,
                sum(length)::bigint as total
            from lasted group by all order by policy, vm""")

    def _daily(self, by: str, rolling: bool = True) -> str:
        mean = """, case when count(size) over seven = 7 then avg(size) over seven end as rolling,
            make_timestamp(day * 86400000000) as period""" if rolling else ""  # fmt: skip
        return f"""{self._sessions()},
            sized as (
                from known where finished and total_size is not null and ended <= {self.now}),
            steps as (
                select {by}, ended // {DAY} as day, total_size,
                    lag(total_size) over (partition by vm order by ended, created, total_size) as earlier
                from sized),
            moves as (
                select {by}, day, count(*) as sessions, count(*) filter (earlier is null) as vms,
                    sum(total_size - coalesce(earlier, 0))::bigint as change
                from steps group by all),
            began as (
                select {by}, created // {DAY} as day, count(*) filter (running) as running
                from known group by all),
            days as (
                select unnest(range((select min(created) from known) // {DAY}, ({self.now} - 1) // {DAY} + 1)) as day),
            filled as (
                select {by}, day, coalesce(sessions, 0) as sessions, coalesce(running, 0) as running,
                    sum(vms) over w as vms, sum(change) over w as size
                from (select distinct {by} from known) cross join days
                    left join moves using ({by}, day) left join began using ({by}, day)
                window w as (partition by {by} order by day)),
            levels as (
                select {by}, day, sessions, running, coalesce(vms, 0)::bigint as vms,
                    case when vms > 0 then size::bigint end as size from filled),
            daily as (
                select *{mean} from levels
                window seven as (partition by {by} order by day rows between 6 preceding and current row))"""

    def sizes(self) -> Any:
        return self._ask(f"with {self._daily('policy')} from daily order by policy, day")

    def sizes_by_vm(self) -> Any:
        return self._ask(f"with {self._daily('policy, vm')} from daily order by policy, vm, day")

    def _trend(self, by: str) -> Any:
        return self._ask(f"""with {self._daily(by, rolling=False)},
            whole as (
                from daily where size is not null
                and day > (select min(day) from daily) and day < (select max(day) from daily)),
            slopes as (
                select {by}, list_sort(list((b.size - a.size) / (b.day - a.day))) as slopes
                from whole a join whole b using ({by}) where b.day > a.day group by all),
            ends as (
                select {by}, count(*) as periods, arg_max(size, day) as size, periods::double as n,
                    n * (n - 1) / 2 as pairs,
                    {NORMAL_95} * sqrt(n * (n - 1) * (2 * n + 5) / 18) as wide
                from whole group by all)
            select {by}, periods, size, list_median(slopes) as slope,
                slopes[round_even((pairs - wide) / 2, 0)::bigint] as slope_low,
                slopes[round_even((pairs + wide) / 2, 0)::bigint + 1] as slope_high,
                size + slope * {HORIZON} as projected, projected / size - 1 as growth
            from ends join slopes using ({by}) order by {by}""")

    def size_trend(self) -> Any:
        return self._trend("policy")

    def size_trend_by_vm(self) -> Any:
        return self._trend("policy, vm")

    def what_if(self) -> Any:
        goals = ", ".join(map(str, TARGETS))
        return self._ask(f"""with {self._spans()},
            whole as (
                select sum(finish - created)::bigint as observed, sum(gap)::bigint as exposed,
                    count(*) filter (gap > 0) as gaps from aged),
            goals as (select unnest([{goals}]) as rpo),
            tried as (
                select rpo, sum(greatest(gap - rpo, 0))::bigint as breached,
                    count(*) filter (gap > rpo) as breaches
                from aged cross join goals where gap > 0 group by all)
            select rpo, observed, exposed, breached, gaps, breaches,
                1 - breached / observed as adherence, 1 - breaches / gaps as gap_adherence
            from tried cross join whole order by rpo""")


class ScannedByDuckDB(InDuckDB):
    """The same of an archive: a view of its files."""

    def __init__(self, folder: str) -> None:
        import duckdb

        super().__init__(duckdb.connect())
        self.sql.execute("set timezone = 'UTC'")
        files = f"read_parquet('{folder}/sessions/*/*.parquet')"
        self.sql.execute(f"create view sessions as select {', '.join(NEEDED)} from {files}")


class InPandas:
    """As an analyst would write it: sort, groupby, cummax, shift."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame

    def _sessions(self) -> tuple[pd.DataFrame, pd.Timestamp]:
        frame = self.frame
        now = frame["as_of"].max() if "as_of" in frame else frame[["created", "ended"]].max().max()
        if "uid" in frame and frame["uid"].duplicated().any():
            frame = frame.sort_values("as_of", kind="stable")
            frame = frame.drop_duplicates("uid", keep="last")
        running = frame["state"] == "InProgress"
        finished = (frame["state"] == "Completed") & (frame["ended"] >= frame["created"])
        stop = frame["ended"].where(~running | frame["ended"].notna(), now)
        stop = stop.where(running | finished)
        return frame.assign(running=running, finished=finished, stop=stop.clip(upper=now)), now

    def _spans(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.Timestamp]:
        sessions, now = self._sessions()
        protects = sessions["running"] | (sessions["finished"] & (sessions["result"] != "Failed"))
        spans = sessions[protects & (sessions["stop"] > sessions["created"])]
        attempts = sessions[sessions["state"] != "Pending"].sort_values("created")
        first = attempts.drop_duplicates("vm").assign(running=False, result="None")
        spans = pd.concat([first.assign(stop=first["created"]), spans])
        spans = spans.sort_values(["vm", "created", "stop"], kind="stable")
        vm = spans["vm"]
        begun = spans["created"].groupby(vm, observed=True)
        spans["finish"] = begun.shift(-1).fillna(now)
        spans["reach"] = spans["stop"].groupby(vm, observed=True).cummax()
        strict = spans["running"] | (spans["result"] == "Success")
        strict_stop = spans["stop"].where(strict, begun.transform("first"))
        spans["reach_strict"] = strict_stop.groupby(vm, observed=True).cummax()
        none, target = pd.Timedelta(0), pd.Timedelta(TARGET, unit="us")
        spans["observed"] = spans["finish"] - spans["created"]
        spans["gap"] = (spans["finish"] - spans["reach"]).clip(lower=none)
        spans["late"] = (spans["gap"] - target).clip(lower=none)
        since = np.maximum(spans["reach_strict"] + target, spans["created"])
        spans["late_strict"] = (spans["finish"] - since).clip(lower=none)
        return sessions, spans, now

    def rpo_adherence(self) -> pd.DataFrame:
        sessions, spans, _ = self._spans()
        by, target = ["policy", "vm"], pd.Timedelta(TARGET, unit="us")
        result = sessions["result"].astype("str").where(sessions["finished"], "None")
        verdicts = sessions[by].assign(
            sessions=1, success=result == "Success", warning=result == "Warning",
            failed=result == "Failed", unknown=result == "None",
        ).groupby(by, observed=True).sum()  # fmt: skip
        spans = spans.assign(gaps=spans["gap"] > pd.Timedelta(0), breaches=spans["gap"] > target)
        grouped = spans.groupby(by, observed=True)
        names = {"observed": "observed", "exposed": "gap", "breached": "late", "strict": "late_strict",
                 "gaps": "gaps", "breaches": "breaches"}  # fmt: skip
        sums = grouped.agg(
            worst_gap=("gap", "max"), **{new: (old, "sum") for new, old in names.items()}
        )
        table = verdicts.join(sums)
        table["worst_gap"] = table["worst_gap"].where(table["gaps"] > 0)
        table["adherence"] = 1 - table["breached"] / table["observed"]
        table["adherence_strict"] = 1 - table.pop("strict") / table["observed"]
        table["gap_adherence"] = 1 - table["breaches"] / table["gaps"]
        finished = table["success"] + table["warning"] + table["failed"]
        table["success_rate"] = table["success"] / finished
        return table.reset_index()

    def gaps(self) -> pd.DataFrame:
        sessions, spans, now = self._spans()
        found = spans.loc[
            spans["gap"] > pd.Timedelta(0), ["vm", "policy", "reach", "finish", "gap", "late"]
        ]
        found = found.set_axis(["vm", "policy", "start", "end", "exposure", "breached"], axis=1)
        found["open"] = found["end"] == now
        lost = sessions[sessions["finished"] & (sessions["result"] == "Failed")]
        lost = lost[["vm", "created", "stop", "reason"]].sort_values("created")
        found = pd.merge_asof(
            found.sort_values("end"), lost, left_on="end", right_on="created", by="vm",
            allow_exact_matches=False,
        )  # fmt: skip
        inside = (found["stop"] > found["start"]) | (found["created"] >= found["start"])
        told = ("Failed: " + found["reason"]).where(found["reason"] != "", "Failed")
        found["cause"] = told.where(inside, "no session")
        found = found.drop(columns=["created", "stop", "reason"])
        return found.sort_values(["start", "vm"], ignore_index=True)

    def durations(self) -> pd.DataFrame:
        sessions, now = self._sessions()
        by = ["policy", "vm"]
        done = sessions["finished"] & (sessions["ended"] <= now)
        counts = sessions[by].assign(
            sessions=done, running=sessions["running"], unknown=~done & ~sessions["running"]
        ).groupby(by, observed=True).sum()  # fmt: skip
        finished = sessions[done]
        length = (finished["ended"] - finished["created"]).dt.total_seconds() * 1e6
        grouped = length.groupby([finished["policy"], finished["vm"]], observed=True)
        figures = grouped.agg(["mean", "median", "max", "sum"]).rename(columns={"sum": "total"})
        figures["p95"] = grouped.quantile(0.95)
        return counts.join(figures.round()).reset_index()

    def _daily(self, by: list[str]) -> pd.DataFrame:
        sessions, now = self._sessions()
        known = sessions["finished"] & sessions["total_size"].notna() & (sessions["ended"] <= now)
        sized = sessions[known].sort_values(["vm", "ended", "created", "total_size"])
        size = sized["total_size"].astype("int64")
        before = size.groupby(sized["vm"], observed=True).shift()
        moves = sized[by].assign(
            day=sized["ended"].dt.floor("D"), sessions=1, vms=before.isna(),
            change=size - before.fillna(0).astype("int64"),
        )  # fmt: skip
        days = pd.date_range(
            sessions["created"].min().floor("D"), (now - pd.Timedelta("1us")).floor("D"), name="day"
        )
        moves = moves.groupby([*by, "day"], observed=True).sum()
        began = sessions.loc[sessions["running"], by].assign(
            day=sessions["created"].dt.floor("D"), running=1
        ).groupby([*by, "day"], observed=True).sum()  # fmt: skip
        groups = sessions[by].drop_duplicates()
        table = groups.merge(pd.DataFrame({"day": days}), how="cross")
        table = table.merge(moves, on=[*by, "day"], how="left")
        table = table.merge(began, on=[*by, "day"], how="left").sort_values([*by, "day"])
        filled = table[["sessions", "running", "vms", "change"]].fillna(0).astype("int64")
        table[filled.columns] = filled
        grouped = table.groupby(by, observed=True)
        table["vms"], table["size"] = grouped["vms"].cumsum(), grouped["change"].cumsum()
        table["size"] = table["size"].astype("Int64").where(table["vms"] > 0)
        return table.drop(columns="change").rename(columns={"day": "period"})

    def _sizes(self, by: list[str]) -> pd.DataFrame:
        table = self._daily(by)
        grouped = table["size"].astype(float).groupby([table[key] for key in by], observed=True)
        rolling = grouped.rolling(7).mean()
        return table.assign(rolling=rolling.reset_index(drop=True).to_numpy())

    def sizes(self) -> pd.DataFrame:
        return self._sizes(["policy"])

    def sizes_by_vm(self) -> pd.DataFrame:
        return self._sizes(["policy", "vm"])

    def _trend(self, by: list[str]) -> pd.DataFrame:
        from scipy.stats import theilslopes

        daily = self._daily(by)
        first, last = daily["period"].min(), daily["period"].max()
        daily = daily[daily["size"].notna() & (daily["period"] > first) & (daily["period"] < last)]
        rows = []
        for keys, group in daily.groupby(by, observed=True):
            days = (group["period"] - first) / pd.Timedelta("1D")
            fit = theilslopes(group["size"].astype(float), days)
            rows.append(
                [
                    *keys,
                    len(group),
                    group["size"].iloc[-1],
                    fit.slope,
                    fit.low_slope,
                    fit.high_slope,
                ]
            )
        table = pd.DataFrame(
            rows, columns=[*by, "periods", "size", "slope", "slope_low", "slope_high"]
        )
        table["projected"] = table["size"] + table["slope"] * HORIZON
        table["growth"] = table["projected"] / table["size"] - 1
        return table

    def size_trend(self) -> pd.DataFrame:
        return self._trend(["policy"])

    def size_trend_by_vm(self) -> pd.DataFrame:
        return self._trend(["policy", "vm"])

    def what_if(self) -> pd.DataFrame:
        _, spans, _ = self._spans()
        gap = spans["gap"]
        rows = []
        for goal in TARGETS:
            rpo = pd.Timedelta(goal, unit="us")
            rows.append({
                "rpo": rpo, "observed": spans["observed"].sum(), "exposed": gap.sum(),
                "breached": (gap - rpo).clip(lower=pd.Timedelta(0)).sum(),
                "gaps": (gap > pd.Timedelta(0)).sum(), "breaches": (gap > rpo).sum(),
            })  # fmt: skip
        table = pd.DataFrame(rows)
        table["adherence"] = 1 - table["breached"] / table["observed"]
        table["gap_adherence"] = 1 - table["breaches"] / table["gaps"]
        return table


class ReadByPandas(InPandas):
    """The same of an archive: its files are read for each question, the columns that are needed."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    @property
    def frame(self) -> pd.DataFrame:  # type: ignore[override]
        return pd.read_parquet(f"{self.folder}/sessions", columns=NEEDED)


class Ours:
    """The metrics themselves."""

    def __init__(self, frame: pd.DataFrame) -> None:
        from cdpanalytics import metrics

        self.metrics, self.frame = metrics, frame
        self.target = pd.Timedelta(TARGET, unit="us")

    def rpo_adherence(self) -> pd.DataFrame:
        return self.metrics.rpo_adherence(self.frame, self.target)

    def rpo_adherence_daily(self) -> pd.DataFrame:
        return self.metrics.rpo_adherence(self.frame, self.target, by="policy", freq="D")

    def gaps(self) -> pd.DataFrame:
        return self.metrics.gaps(self.frame, self.target)

    def durations(self) -> pd.DataFrame:
        return self.metrics.durations(self.frame)

    def sizes(self) -> pd.DataFrame:
        return self.metrics.sizes(self.frame, by="policy")

    def sizes_by_vm(self) -> pd.DataFrame:
        return self.metrics.sizes(self.frame)

    def size_trend(self) -> pd.DataFrame:
        return self.metrics.size_trend(self.frame, by="policy")

    def size_trend_by_vm(self) -> pd.DataFrame:
        return self.metrics.size_trend(self.frame)

    def what_if(self) -> pd.DataFrame:
        return self.metrics.what_if(self.frame, [pd.Timedelta(goal, unit="us") for goal in TARGETS])


class OursRead(Ours):
    """The same of an archive: a Selection, made anew for each question, reads what it needs."""

    def __init__(self, folder: str) -> None:
        super().__init__(pd.DataFrame())
        self.metrics = _Selected(folder, {})


class OursMapped(Ours):
    """The same of an archive, never read whole: by ranges of VMs."""

    def __init__(self, folder: str) -> None:
        super().__init__(pd.DataFrame())
        self.metrics = _Selected(folder, {"memory": "4GB"})


class _Selected:
    """The metrics, asked of an archive in place of a frame."""

    def __init__(self, folder: str, using: dict[str, str]) -> None:
        from cdpanalytics.archive import Archive

        self.archive, self.using = Archive(folder), using

    def __getattr__(self, name: str) -> Any:
        question = self.archive.select().using(**self.using)

        def ask(_: pd.DataFrame, *arguments: Any, **named: Any) -> pd.DataFrame:
            if name in ("rpo_adherence", "gaps") and arguments:
                named["target"], arguments = arguments[0], ()
            return getattr(question, name)(*arguments, **named)

        return ask
