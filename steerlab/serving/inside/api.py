"""NDIF's API as it is offered here: to programs alone (`door`), for the models that are served, and with two questions
more.

`DELETE /request/ID` ends a job, queued or running, which NDIF offers to its operators alone (`ndif kill`). It sends the
same event. `GET /BUCKET/ID.pt` is where NDIF's addresses of results lead: the object store itself is not reached from
outside. Whoever knows a job's id may end it and read it, as they may ask for its last word.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from typing import Any

import modelkeys
from door import Door
from fastapi import Depends, Form, HTTPException, Response
from ndif.common import redis as names
from ndif.common.providers.objectstore import ObjectStoreProvider as Store
from ndif.common.providers.redis import RedisProvider
from ndif.common.schema import BackendRequestModel
from ndif.services.api.app import app, require_ray_connection
from ndif.services.api.auth import validate_request

PATIENCE = 10  # seconds for the event to be answered
TOLD = {"model_key", "session_id", "compress", "env"}  # what a client may say of a request
SANDBOX = os.environ["STEERLAB_SANDBOX"] == "1"

app.user_middleware.clear()  # it lets every web page ask
app.add_middleware(Door, loopback=os.environ["STEERLAB_LOOPBACK"] == "1")


async def request(data: str = Form()) -> BackendRequestModel:
    """A request as its client describes it. What the server decides of one, a client cannot: its id, whether its code
    may run in the model's process, and how the model is loaded.
    """
    try:
        asked = BackendRequestModel.model_validate_json(data)
        asked.model_key = modelkeys.key(modelkeys.repository(asked.model_key))
    except ValueError as error:  # pydantic's errors are some
        raise HTTPException(422, str(error)) from error
    return BackendRequestModel(**asked.model_dump(include=TOLD), trusted=not SANDBOX)


app.dependency_overrides[validate_request] = request  # which trusts everybody where no keys are asked for


@app.delete("/request/{job_id}", dependencies=[Depends(require_ray_connection)])  # type: ignore[untyped-decorator]
async def end(job_id: str) -> Any:
    """End a job. Answers NDIF's own words: removed_from_queue, cancelled_execution or not_found."""
    client, key = RedisProvider.async_client, f"steerlab:ended:{uuid.uuid4().hex}"
    event = {"event_type": names.EVENT_KILL, "request_id": job_id, "response_key": key}
    await client.xadd(names.EVENTS_STREAM, event, maxlen=64, approximate=True)
    answer = await client.brpop(key, timeout=PATIENCE)
    if answer is None:
        raise HTTPException(504, "The compute backend did not answer in time.")
    return json.loads(answer[1])


@app.get(f"/{Store.bucket}/{{name}}")  # type: ignore[untyped-decorator]
async def result(name: str) -> Response:
    """What a job saved, as long as it is kept."""
    data = await asyncio.to_thread(Store.get, name)
    if data is None:
        raise HTTPException(404, f"There is no result {name} here, or not any more.")
    return Response(data, media_type="application/octet-stream")
