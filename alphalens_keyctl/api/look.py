"""A route that takes nothing but its caller and KEY, as those do that are asked for most."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from alphalens_keyctl.api import call
from alphalens_keyctl.api.call import Call


class Look(APIRoute):
    """A route whose function takes `caller` and what stands in its path. A query is refused.

    FastAPI describes the route and finds it, and does not look for what else the function may want: that takes longer
    than to read the key.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        look = self.endpoint

        async def answer(request: Request) -> Response:
            if request.scope["query_string"]:
                call.no_query(request)
            in_path = {name: call.key_in_path(value) for name, value in request.path_params.items()}
            work = partial(look, caller=Call(request), **in_path)
            # A thread each: the doorway lets no more requests in than there are threads.
            answered: Response = await asyncio.get_running_loop().run_in_executor(None, work)
            return answered

        return answer
