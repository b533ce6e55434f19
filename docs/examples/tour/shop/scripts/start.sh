#!/bin/sh -e
cd /srv
python3 -m shop "$(cat /srv/address)" >/srv/log 2>&1 </dev/null &
echo $! > /srv/pid
