"""The command line: ``operator-api``.

::

    program.py    the commands, and how the program ends
    serve.py, tokens.py, accounts.py, explain.py, failures.py    one file for each group of commands
    store.py      opens a store for a command, and says why it cannot; the server is imported here
    failure_store.py, failure_pages.py    a client's log of failures, read and told
    outbox.py, outbox_store.py    a client's outbox, looked at and sent
    call.py, caller.py    one call of any operation; call_fields.py reads what is given to it,
                          call_answers.py prints what came, call_failures.py why it failed
    options.py    what several commands take
    output.py, problems.py    what is printed: for people, and for programs with ``--json``

What works without the server's packages (``explain``, ``version``) must not import them, and what
does not need them starts faster: every import of the server is inside the command that needs it.
"""

from operator_api.cli.program import main

__all__ = ["main"]
