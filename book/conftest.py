"""For `pytest --nbmake book`: chapters run as in the static page.

A widget that captures what a cell shows makes nbclient send on the very socket on which it waits for the end of the
cell; now and then it then waits for ever. That widgets answer is tested in a kernel without nbclient
(`tests/test_live.py`).
"""

import os

os.environ.setdefault("MSDM_LITE_STATIC", "1")
