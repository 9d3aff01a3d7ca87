"""Cuts what an answer quotes, so that only the answer stays.

Three rules, no guesses: what follows a line such as `On ... wrote:`, `-----Original Message-----` or a block of
`From:` and `Sent:` is the mail that is answered; lines that begin with `>` are quotes; after `-- ` is a signature.
"""

import re

_ATTRIBUTION = re.compile(
    r"^(On\b.{4,300}\bwrote:|Am\b.{4,300}\bschrieb\b.{0,200}:|Le\b.{4,300}\ba écrit\s?:"
    r"|在.{2,300}写道[：:]|.{1,200}[于於].{4,100}写道[：:]"
    r"|\d{4}[-/年].{4,200}[<＜].{3,200}[>＞]\s*[：:]?)\s*$",
    re.IGNORECASE | re.DOTALL,
)
_TITLES = "Original Message|Forwarded message|原始邮件|原邮件|回复的原邮件|转发邮件信息"
_DIVIDER = re.compile(rf"^\s*(-{{3,}}|_{{5,}})\s*({_TITLES})?\s*(-{{3,}}|_{{5,}})?\s*$", re.IGNORECASE)
_NAMES = "From|Sent|Date|To|Cc|Subject|发件人|发送时间|日期|时间|收件人|抄送|主题"
_FIELD = re.compile(rf"^\s*\**({_NAMES})\s*\**\s*[:：]", re.IGNORECASE)
_ATTRIBUTION_LINES = 3
"""Over so many lines mail programs wrap it."""


def without_quotes(text: str) -> str:
    """The answer alone; the whole text where nothing would stay."""
    lines = text.splitlines()
    end = next((index for index in range(len(lines)) if _begins_the_old_mail(lines, index)), len(lines))
    kept: list[str] = []
    for line in lines[:end]:
        if line.rstrip("\r") == "-- ":
            break
        if not line.startswith(">"):
            kept.append(line)
    answer = re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()
    return answer or text.strip()


def _begins_the_old_mail(lines: list[str], index: int) -> bool:
    line = lines[index]
    if _DIVIDER.match(line):
        titled = re.search(r"[A-Za-z\u4e00-\u9fff]", line) is not None
        return titled or _fields(lines, index + 1) >= 2
    if _FIELD.match(line):
        return _fields(lines, index) >= 3
    if not line.strip() or line.startswith(">"):
        return False
    joined = ""
    for step in range(_ATTRIBUTION_LINES):
        if index + step >= len(lines) or not lines[index + step].strip():
            break
        joined = f"{joined} {lines[index + step].strip()}".strip()
        if len(joined) > 600:
            break
        if _ATTRIBUTION.match(joined):
            return _is_followed_by_quotes(lines, index + step + 1)
    return False


def _is_followed_by_quotes(lines: list[str], index: int) -> bool:
    """Not so in an answer between the quotes: the text that follows them stays."""
    rest = [line for line in lines[index:] if line.strip()]
    return not rest or not rest[0].startswith(">") or all(line.startswith(">") for line in rest)


def _fields(lines: list[str], index: int) -> int:
    """How many lines of a header stand there in a row, blank ones aside."""
    found = 0
    for line in lines[index : index + 12]:
        if _FIELD.match(line):
            found += 1
        elif line.strip():
            break
    return found
