"""A request as the parts of the simulator read it, and the bodies of its answer."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from . import render, views
from .fleet import Snapshot
from .render import Entity
from .views import View

if TYPE_CHECKING:
    from .server import Simulator


@dataclass
class Request:
    """A request, and how its answer is written.

    Attributes
    ----------
    simulator : Simulator
    command, target : str
        Method, and path with query, as received.
    parameters : dict
        Of the query, with lower-case names.
    as_json : bool
        Whether the answer is JSON; XML otherwise.
    json_body : bool
        Whether the body of the request is JSON.
    base : str
        Scheme, host and port of links.
    fault : str, optional
        What goes wrong.
    extra_headers : dict
        Of the answer.
    """

    simulator: "Simulator"
    command: str
    target: str
    parameters: dict[str, str]
    as_json: bool
    json_body: bool
    base: str
    fault: str | None = None
    extra_headers: dict[str, str] = field(default_factory=dict)

    def view(self, snapshot: Snapshot) -> View:
        """Return the view of a snapshot that makes entities with links of this request."""
        simulator = self.simulator
        return View(simulator.fleet, snapshot, self.base, simulator.version >= 13)

    def error(self, message: str, status: int) -> str:
        """Return the body of an error."""
        return render.error(message, status, as_json=self.as_json, version=self.simulator.version)

    def single(self, entity: Entity) -> str:
        """Return the body of one entity."""
        if self.as_json:
            return render.json_text(render.entity_json(entity), self.simulator.version)
        element = entity.kind if entity.element == "CdpPolicySession" else entity.element
        whole = Entity(
            element, entity.kind, entity.href, entity.name, entity.uid, entity.links, entity.fields
        )
        return render.entity_xml(whole, root=True)

    def collection(self, name: str, entities: list[Entity]) -> str:
        """Return the body of a list of entities, or of references to them."""
        version = self.simulator.version
        if self.parameters.get("format", "").casefold() not in ("entity", "entities"):
            listed = views.references(entities, as_json=self.as_json, version=version)
            if self.as_json:
                return f'{{"{"refs" if version >= 13 else "Refs"}":[{listed}]}}'
            return f'<EntityReferences xmlns="{render.NAMESPACE}">{listed}</EntityReferences>'
        if self.as_json:
            return render.json_text(
                {name: [render.entity_json(entity) for entity in entities]}, version
            )
        inner = "".join(render.entity_xml(entity) for entity in entities)
        return f'<{name} xmlns="{render.NAMESPACE}">{inner}</{name}>'
