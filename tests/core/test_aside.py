"""Long work leaves the event loop; short work does not pay for a thread."""

import threading
from concurrent.futures import ThreadPoolExecutor

from ctxpress.aside import INLINE_SIZE, aside


async def test_only_large_work_goes_to_a_thread():
    with ThreadPoolExecutor(max_workers=1) as executor:
        small = await aside(executor, INLINE_SIZE, threading.get_ident)
        large = await aside(executor, INLINE_SIZE + 1, threading.get_ident)
    assert small == threading.get_ident() != large
    assert await aside(None, INLINE_SIZE + 1, threading.get_ident) == small
