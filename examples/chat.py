"""Chat through OpenAI's own client, word by word.

AUTOGLM_KEY=$(cat ~/.local/share/autoglm/admin.key) python examples/chat.py "What is a quorum?"
"""

import os
import sys

try:
    from openai import OpenAI
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is missing: pip install openai installs it")

url = os.environ.get("AUTOGLM_URL", "http://127.0.0.1:8600")  # noqa: TID251  # an example of a client
key = os.environ.get("AUTOGLM_KEY")  # noqa: TID251
if not key:
    sys.exit("Set AUTOGLM_KEY to a key of the hub; the first one is in ~/.local/share/autoglm/admin.key")
client = OpenAI(base_url=f"{url}/v1", api_key=key)
question = " ".join(sys.argv[1:]) or "用一句话介绍你自己"
stream = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": question}], stream=True)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
