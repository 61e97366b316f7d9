"""Writes that are kept on the disk before they are sent.

::

    outbox.py         what programs see, and when it is opened
    keeper.py         keeps writes, and runs the thread that sends them
    drainer.py        sends: claims a write, makes its attempts, settles what became of it
    drain_policy.py   pure: what an attempt means for its write, and when the next one is due
    store.py, rows.py, leases.py, file.py   the SQLite file, and who may send what is in it
    sealing.py        what of a write is sealed
"""
