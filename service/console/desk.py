"""A logged-in person's desk: what every page of theirs is made with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Response
from sqlalchemy import Connection

from monitoring.core.ledger import versions
from monitoring.core.ledger.access import Session
from monitoring.core.types import Role
from service.console.pages import render
from service.console.session import Visitor
from service.context import Context, Here


@dataclass(frozen=True)
class Desk:
    """Makes pages for the person who asks."""

    context: Context
    session: Session

    def page(self, template: str, connection: Connection, *, section: str, **values: Any) -> Response:
        """A page with what its frame needs: who is here, what they may do, and the names of versions."""
        person = self.session.principal
        return render(
            template,
            section=section,
            person=person,
            csrf=self.session.csrf,
            may_approve=Role.APPROVE in person.roles,
            may_operate=Role.OPERATE in person.roles,
            now=self.context.clock(),
            names={version.id: version.name for version in versions.find(connection)},
            **values,
        )


def _desk(context: Here, visitor: Visitor) -> Desk:
    return Desk(context, visitor)


AtDesk = Annotated[Desk, Depends(_desk)]
