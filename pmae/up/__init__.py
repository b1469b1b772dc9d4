"""The whole service on one machine: broker, database, API, worker and dashboard.

:class:`pmae.up.stack.Stack` starts them as processes of their own and imports none of them.
"""
