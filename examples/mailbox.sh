#!/bin/sh
# Send a message, wait for it as its reader, acknowledge it, and see its receipts.
#   AUTOGLM_KEY=$(cat ~/.local/share/autoglm/admin.key) sh examples/mailbox.sh
set -eu
: "${AUTOGLM_KEY:?set it to a key of the hub; the first one is in ~/.local/share/autoglm/admin.key}"
url=${AUTOGLM_URL:-http://127.0.0.1:8600}
call() { curl -sS --fail-with-body -H "Authorization: Bearer $AUTOGLM_KEY" "$@"; echo; }

id="shift-$(date +%s)-$$"
call "$url/api/messages" -d "{\"id\": \"$id\", \"to\": \"user:alice\", \"content\": \"Shift ends at six.\"}"
call "$url/api/messages?to=user:alice&reader=example&wait=30"
call -X POST "$url/api/messages/$id/ack"
call "$url/api/messages/$id/receipts"
