"""Asks a step that takes minutes to come to an early end, at a moment when nothing is lost by it.

Whoever runs steps in this process sets `asked`, and clears it before the next one. Dagster's own processes have no
need of it: they raise an interrupt in the thread that runs the step.
"""

import threading

asked = threading.Event()
