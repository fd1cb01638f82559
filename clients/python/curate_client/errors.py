"""What can go wrong, with the server's codes and hints."""

from __future__ import annotations

from typing import Any, Mapping, Optional


class CurateError(Exception):
    """An error the server reported, or one of this client (codes that begin with ``client/``).

    ``code`` is stable and meant for programs; ``hint`` says what to do; ``status`` is the HTTP status, 0 where no answer came.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        hint: Optional[str] = None,
        status: int = 0,
        retriable: bool = False,
        location: Optional[Mapping[str, Any]] = None,
        request_id: Optional[str] = None,
    ) -> None:
        super().__init__(f"{detail} [{code}]" + (f"; {hint}" if hint else ""))
        self.code = code
        self.detail = detail
        self.hint = hint
        self.status = status
        self.retriable = retriable
        self.location = location
        self.request_id = request_id

    @classmethod
    def from_problem(cls, status: int, problem: Mapping[str, Any]) -> "CurateError":
        """The error a problem document describes."""
        return cls(
            str(problem.get("code") or f"http/{status}"),
            str(problem.get("detail") or problem.get("title") or f"the server answered {status}"),
            hint=problem.get("hint"),
            status=status,
            retriable=bool(problem.get("retriable", False)),
            location=problem.get("location"),
            request_id=problem.get("request_id"),
        )


class CurateUnavailable(CurateError, ConnectionError):
    """The server did not answer, or asked to try later, for longer than the client's patience."""
