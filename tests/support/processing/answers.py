"""HTTP answers in the forms that AWS clients understand."""

from __future__ import annotations

import json
from typing import Any

from werkzeug.wrappers import Response

_S3_ERRORS = {
    403: ("AccessDenied", "Access Denied"),
    500: ("InternalError", "We encountered an internal error. Please try again."),
    503: ("SlowDown", "Please reduce your request rate."),
}


def json_answer(content: dict[str, Any]) -> Response:
    """The result of a SageMaker call."""
    return Response(json.dumps(content), content_type="application/x-amz-json-1.1")


def json_error(code: str, message: str) -> Response:
    """An error of SageMaker or CloudWatch Logs."""
    answer = json_answer({"__type": code, "message": message})
    answer.status_code = 400
    return answer


def s3_error(status: int) -> Response:
    """An error of S3."""
    code, message = _S3_ERRORS[status]
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message>"
        "<RequestId>EMULATED</RequestId></Error>"
    )
    return Response(body, status=status, content_type="application/xml")
