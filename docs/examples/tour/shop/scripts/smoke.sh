#!/bin/sh
# What customers are told, now that they come here, has to be a whole sentence.
said=$(curl -s "http://$(cat /srv/address)/")
case $said in
  *'?'* | '') echo "customers are told: $said" >&2; exit 1 ;;
esac
