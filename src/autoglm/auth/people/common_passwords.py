"""Passwords that are guessed first, by how they are made, beside the list of `guessed_first`. Pure.

Common words, keyboard rows and pinyin, looked for with usual decorations. Each word stands for thousands of passwords:
`Passw0rd!`, `password2026`, `p@ssword123`. So do the words of a site: its name, its machines' names, and what the
settings add (ASVS 5, 6.1.2).
"""

import re

from autoglm.auth.people.guessed_first import is_guessed_first

_WORDS = frozenset(
    """
    abc access account admin adminadmin administrator aini alpha amanda america andrea andrew angel anthony apple
    asdfgh august autoglm autumn azerty backup banana baseball basketball batman beautiful beijing blink boss
    buster butterfly cantona changeit changeme charlie cheese chelsea chocolate christmas company computer console
    cookie cooper corvette daniel database dearbook december default demo dragon eagle easter elephant engine
    enter factory ferrari flower football freedom friday friend fuckyou gateway george ginger golden gongchang
    gongsi google guanliyuan guest hannah happy harley hello helloworld hospital hub hunter iloveu iloveyou
    internet jasmine jennifer jessica jordan joshua killer letmein liverpool login lovely loveme maggie manager
    master matrix matthew merlin michael michelle mima minecraft mobile monday monkey monster morning mustang
    naruto nicole nihao ninja nothing november october office operator orange pass passphrase passwd password
    patrick pepper phoenix pokemon princess private purple qazwsx qwerty qwertz rainbow ranger robot root sample
    samsung secret security september server shadow shanghai silver soccer spring starwars summer sunday sunshine
    superman support switch system taylor temp temporary test tester testing thomas thunder tigger trustno user
    username vanessa victoria wangwei webmaster welcome whatever william winter wizard woaini wodemima xiaomi
    yamaha yankees yiyuan yuangong zhangwei zhongguo zxcvbn 密码 我爱你 管理员 你好 中国
    """.split()  # noqa: SIM905  # a list of 200 words reads better so
)
_ROWS = """
    qwertyuiop asdfghjkl zxcvbnm qwertzuiop azertyuiop 01234567890 abcdefghijklmnopqrstuvwxyz !@#$%^&*()
    1qaz2wsx3edc4rfv5tgb6yhn7ujm qazwsxedcrfvtgbyhnujm 1q2w3e4r5t6y7u8i9o0p q1w2e3r4t5y6u7i8o9p0 zaq12wsxcde34rfv
    """.split()  # noqa: SIM905  # as above
_LEET = str.maketrans("@430!15$78", "aaeoilsstb")
_LONG_NUMBER = 16
_AROUND = re.compile(r"^[\W\d_]+|[\W\d_]+$")


def is_common(password: str, *names: str) -> bool:
    """True for what is made of common words, keyboard rows or repetitions, of short numbers, or of one of `names`.

    Decoration counts for nothing: upper case, letters replaced by digits, digits and signs around it.
    """
    plain = password.casefold()
    core = _AROUND.sub("", plain)
    if _repeats(plain) or _is_walk(plain) or is_guessed_first(plain) or is_guessed_first(core):
        return True
    words = _WORDS.union(*map(_words_of, names))
    if not core:  # dates, telephone numbers, the row of signs
        return len(plain) < _LONG_NUMBER
    return any(_is_made_of(text, words) for text in {core, core.translate(_LEET), _unleet(plain)})


def _words_of(name: str) -> set[str]:
    """`press-hall.example` is three of them, and one with the signs left out."""
    parts = re.findall(r"[^\W\d_]{3,}", name.casefold())
    return {*parts, "".join(parts)}


def _unleet(plain: str) -> str:
    return _AROUND.sub("", plain.translate(_LEET))


def _is_made_of(text: str, words: frozenset[str]) -> bool:
    """One word, the same word again, or two of them with signs between: `adminpassword`, `hello_world`."""
    bare = "".join(character for character in text if character.isalpha())
    return bare in words or any(bare[:cut] in words and bare[cut:] in words for cut in range(2, len(bare) - 1))


def _repeats(text: str) -> bool:
    """`aaaaaaaa`, `abcabcabc`, `12121212`: a unit of up to 4, again and again; or at most 3 different characters."""
    return len(set(text)) <= 3 or any(text == (text[:size] * len(text))[: len(text)] for size in range(1, 5))


def _is_walk(text: str) -> bool:
    """A way along a row of keys or the alphabet, there or back, in at most two parts: `qwertyuiop`, `asdf1234`."""
    cuts = range(4, len(text) - 3)
    return _is_on_row(text) or any(_is_on_row(text[:cut]) and _is_on_row(text[cut:]) for cut in cuts)


def _is_on_row(part: str) -> bool:
    return any(part in row or part[::-1] in row for row in _ROWS)
