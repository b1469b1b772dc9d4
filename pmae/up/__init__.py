"""The whole service on one machine: broker, database, API, worker and dashboard.

:class:`pmae.up.stack.Stack` starts each as a process of its own and imports none of them.
"""
