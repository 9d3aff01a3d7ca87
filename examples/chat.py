"""Chat through OpenAI's own client, word by word.

AUTOGLM_KEY=$(cat ~/.local/share/autoglm/admin.key) python examples/chat.py "What is a quorum?"
"""

import os
import sys

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("AUTOGLM_URL", "http://127.0.0.1:8600") + "/v1",  # noqa: TID251  # an example of a client
    api_key=os.environ["AUTOGLM_KEY"],  # noqa: TID251
)
question = " ".join(sys.argv[1:]) or "用一句话介绍你自己"
stream = client.chat.completions.create(model="auto", messages=[{"role": "user", "content": question}], stream=True)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
