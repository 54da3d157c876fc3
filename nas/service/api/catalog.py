"""What a search may name: ``GET /v1/catalog``."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import sqlalchemy as sa
from pydantic import BaseModel, Field

from nas.service.api.auth import Reader, The
from nas.service.api.bodies import strict_router
from nas.service.database.tables import targets
from nas.service.searches.requests import catalog, server_targets

router = strict_router("searches")


class CatalogTarget(BaseModel):
    """Where models may be asked for."""

    name: str
    place: Literal["server", "device"]
    last_seen: datetime | None = Field(description="When a device's agent asked last.")


class Catalog(BaseModel):
    """What a search may name."""

    teachers: list[str]
    datasets: list[str]
    supernets: list[str]
    spaces: list[str]
    recipes: list[str]
    metrics: list[str]
    targets: list[CatalogTarget]


@router.get("/catalog")
def show_catalog(caller: Reader, service: The) -> Catalog:
    """The names that a search may use: teachers, data sets, spaces, recipes, targets and others."""
    offered = catalog(service, caller)
    devices = (
        sa.select(targets.c.name, sa.literal("device").label("place"), targets.c.last_seen)
        .where(targets.c.name.in_(offered["targets"]))
        .order_by(targets.c.name)
    )
    places = [{"name": name, "place": "server", "last_seen": None} for name in server_targets()]
    with service.engine.connect() as connection:
        places += [dict(row) for row in connection.execute(devices).mappings()]
    return Catalog.model_validate({**offered, "targets": places})
