"""Structured logs of the service: one JSON object a line, and a line for each request."""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
from datetime import UTC, datetime

requests = logging.getLogger("lmm4rec.serving.http.requests")
_ID = re.compile(r"[\w.:/+=-]{1,128}")


class JsonLines(logging.Formatter):
    """A record as a line of JSON: time, level, logger, message, and what is passed as `extra={"fields": {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": moment, "level": record.levelname.lower(), "logger": record.name}
        line |= {"message": record.getMessage()} | getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def use_json_lines() -> None:
    """Write what is logged in this process, requests included, as lines of JSON on standard error."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.StreamHandler(sys.stderr))
    for handler in root.handlers:
        handler.setFormatter(JsonLines())
    own = logging.StreamHandler(sys.stderr)  # the handlers of the command line leave out lines that they had before
    own.setFormatter(JsonLines())
    requests.handlers, requests.propagate = [own], False
    requests.setLevel(logging.INFO)


def log_request(id_: str, method: str, route: str, status: int, seconds: float) -> None:
    """Log an answered request; its route is that of the API, so that no id of a user or an item is logged."""
    if requests.isEnabledFor(logging.INFO) and requests.handlers:
        fields = {"request": id_, "method": method, "route": route, "status": status, "ms": round(1000 * seconds, 2)}
        requests.info("%s %s %d", method, route, status, extra={"fields": fields})


def request_id(given: str | None) -> str:
    """The id of a request: that of a proxy in `X-Request-ID`, where it is a short word, or else a new one."""
    return given if given is not None and _ID.fullmatch(given) else secrets.token_hex(8)
