"""Options of the Axolotl plugin, in the form Axolotl merges into its own schema."""

from __future__ import annotations

from typing import Optional

from pydantic import BaseModel


class CurateArgs(BaseModel):  # type: ignore[misc,unused-ignore]
    """Where the session is."""

    curate_url: str
    curate_session: str
    curate_token: Optional[str] = None
