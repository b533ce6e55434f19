"""Asking external connections: whom we may talk to, how an answer is judged, how long it is kept, who asks first.

``guard`` decides about URLs and addresses, ``dial`` opens vetted sockets, ``wire`` speaks HTTP/1.1 over them, ``line``
keeps them per upstream, ``bodies``, ``document``, ``download`` and ``promised`` judge and read what came, ``failure`` and
``breaker`` say what follows when nothing did, ``client`` puts these together. ``freshness`` and ``flight`` know nothing
of HTTP. No module here knows a package format, a database table or a request of ours.
"""
