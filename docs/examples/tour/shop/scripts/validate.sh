#!/bin/sh
# Whether this version answers, within five seconds.
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' /srv/shop/__init__.py)
for _ in $(seq 50); do
  curl -s "http://$(cat /srv/address)/" | grep "^shop $version:" && exit 0
  sleep 0.1
done
tail -n 3 /srv/log >&2
exit 1
