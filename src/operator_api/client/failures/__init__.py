"""The failed-request log.

::

    attempt.py    what is recorded of an attempt
    log.py        how it is written      entries.py    how it is read
    known.py      which values may be kept in clear
"""
