"""What a search may name: ``GET /v1/catalog``."""

from __future__ import annotations

import sqlalchemy as sa
from fastapi import APIRouter

from nas.service.api.auth import Reader, The
from nas.service.api.operation_ids import by_name
from nas.service.api.problems import described
from nas.service.api.schemas import Catalog, CatalogTarget, moment
from nas.service.database.tables import targets
from nas.service.searches.requests import catalog, server_targets

router = APIRouter(
    prefix="/v1",
    tags=["searches"],
    responses=described(401, 403, 429),
    generate_unique_id_function=by_name,
)


@router.get("/catalog")
def show_catalog(caller: Reader, service: The) -> Catalog:
    """The teachers, data sets, supernets, spaces, recipes and targets that a search may name."""
    offered = catalog(service, caller)
    with service.engine.connect() as connection:
        devices = connection.execute(
            sa.select(targets.c.name, targets.c.last_seen)
            .where(targets.c.name.in_(offered["targets"]))
            .order_by(targets.c.name)
        ).all()
    places = [CatalogTarget(name=name, place="server", last_seen=None) for name in server_targets()]
    places += [
        CatalogTarget(
            name=row.name,
            place="device",
            last_seen=None if row.last_seen is None else moment(row.last_seen),
        )
        for row in devices
    ]
    names = {kind: offered[kind] for kind in Catalog.model_fields if kind != "targets"}
    return Catalog(**names, targets=places)
