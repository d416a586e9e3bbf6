#!/usr/bin/env python3
"""Writes tests/train/toml/corpus.txt: TOML documents and what Python's tomllib makes of them.

One case a line: the document, a tab, and "error" or its tree (see test_toml.c), both escaped.
Documents are the lists below and random changes of them, drawn from a fixed seed. Left out are the
few places where tomllib is known to differ from TOML 1.0 or from our limits: integers beyond
64 bits, numbers that overflow to infinity.

    python3 tests/train/make_toml_corpus.py > tests/train/toml/corpus.txt

An argument is the number of random changes tried, for longer comparisons than the recorded one.
"""
import datetime
import math
import random
import struct
import sys
import tomllib

VALID = [
    "", "\n", "# only a comment", "\t \n  # x\n", "a = 1", "a=1\n", " a  =  1  # c\n", "a = 1\r\nb = 2\r\n",
    # keys
    "bare_key = 1\nbare-key = 2\n1234 = 3\n_ = 4\n- = 5", '"quoted key" = 1\n\'other "key"\' = 2',
    '"" = 1', "'' = 1", '"a\\tb" = 1', '"\\u00e9" = 1', "a.b.c = 1", "a . b . c = 1", 'a."b.c".d = 1',
    "a.'b'.\"c\" = 1", "1.2 = 3", "true = 1\nfalse = 2\ninf = 3\nnan = 4", "3.14159 = 'pi'",
    "a.b = 1\na.c = 2", "a.b.c = 1\na.d = 2\na.b.e = 3", "apple.type = 1\norange.type = 2\napple.skin = 3",
    # integers
    "a = 0", "a = +0\nb = -0", "a = +99\nb = 42\nc = -17", "a = 1_000\nb = 5_349_221\nc = 1_2_3_4_5",
    "a = 0xDEADBEEF\nb = 0xdead_beef\nc = 0o01234567\nd = 0o755\ne = 0b11010110\nf = 0x0\ng = 0b0",
    "a = 9223372036854775807\nb = -9223372036854775808", "a = 0x7fffffffffffffff", "a = 0xA_b",
    # floats
    "a = +1.0\nb = 3.1415\nc = -0.01", "a = 5e+22\nb = 1e06\nc = -2E-2", "a = 6.626e-34", "a = 224_617.445_991_228",
    "a = inf\nb = +inf\nc = -inf\nd = nan\ne = +nan\nf = -nan", "a = 0.0\nb = -0.0\nc = 0e0\nd = 0.0e-0",
    "a = 1e1_0\nb = 1_0.0_1", "a = 1e-400", "a = 2.2250738585072014e-308", "a = 1.7976931348623157e308",
    "a = 0.1\nb = 0.30000000000000004\nc = 123456789.123456789", "a = 4.9e-324", "a = 9007199254740993.0",
    # booleans
    "a = true\nb = false",
    # strings
    'a = ""', "a = ''", 'a = """"""', "a = ''''''", 'a = "x # no comment"', 'a = "\\b\\t\\n\\f\\r\\"\\\\"',
    'a = "\\u00E9\\U0001F600\\u0000"', 'a = "é😀"', "a = 'C:\\Users\\x'", "a = '<\\i\\c*\\s*>'",
    'a = """\nRoses\nViolets"""', 'a = """x\\\n   y"""', 'a = """\\\n   x \\\n\n\n   y\\\n  """', 'a = """x\\   \n y"""',
    'a = """a"b""c"""', 'a = """"a""""', 'a = """""a"""""', 'a = """""""', 'a = """"""""', 'a = """a\\"""b"""',
    "a = '''\nx\n'y'\n''z'''", "a = ''''x''''", "a = ''''''''", "a = '''\\x\\'''", 'a = """\r\nx\r\ny"""',
    'a = "tab\there"', "a = 'tab\there'", 'a = """\t"""', 'a = """\\u0041\n\\t"""', 'a = """x\\\r\n  y"""',
    # arrays
    "a = []", "a = [ ]", "a = [1, 2, 3]", "a = [1, 2, 3,]", "a = [\n1,\n# c\n2\n,\n]", "a = [[1, 2], ['a', \"b\"]]",
    "a = [1, 'x', 2.5, true, [], {}]", "a = [[[[]]]]", "a = [ # c\n]", "a = [\n\n\n]", "a = [{x=1}, {x=2}]", "a=[1,[2,[3]]]",
    "a = [\r\n1,\r\n2\r\n]", "a = ['''x\ny''', \"\"\"\nz\"\"\"]", "a = [1979-05-27, 07:32:00]",
    # inline tables
    "a = {}", "a = { }", "a = { x = 1, y = 2 }", "a = { b.c = 1, b.d = 2 }", "a = { 'x y' = 1, \"z\" = { w = [1] } }",
    "a = {x=[1,\n2]}", "a = { b = { c = { d = 1 } } }", "a = { x = '''a\nb''' }", "a = {b.c.d=1,b.e=2}", "a.b = { c = 1 }\na.d = 2",
    # tables
    "[a]", "[a]\nb = 1", "[a]\n[b]", "[ a ]", "[ a . b ]", "[a.b.c]\nx = 1", "[a.b]\n[a]\nx = 1", "[a]\n[a.b]\n[a.b.c]\n[a.d]",
    "['a.b']", '["a\\u0062"]', "[a]#c", "[a] # c\n", "[x.y.z.w]\n[x]", "[a.b.c]\n[a.b]\n[a]", "a = 1\n[b]\nc = 2\n[d]",
    "[fruit]\napple.color = 1\napple.taste.sweet = true\n[fruit.apple.texture]\nsmooth = true", "[dog.\"tater.man\"]\ntype.name = 'pug'",
    "[a]\nb.c = 1\n[a.d]\ne = 2", "[a.b.c]\nz = 9\n[a]\nb.d = 1", "[a]\nx.y = 1\n[b]\nx.y = 2", "[\"\"]\nx=1", "[a]\n\n\n\n[b]",
    # arrays of tables
    "[[a]]", "[[a]]\nx = 1\n[[a]]\nx = 2", "[[a]]\n[a.b]\nc = 1\n[[a]]\n[a.b]\nc = 2", "[[a]]\n[[a.b]]\n[[a.b]]\n[[a]]\n[[a.b]]",
    "[[ a . b ]]\nx = 1", "[a]\n[[a.b]]\n[[a.b]]", "[[a]]\n[a.b.c]\n[a.b]\nx=1", "[[a.b]]\n[a]\nx = 1", "[[a]]\nb.c = 1\n[a.d]",
    "[[fruits]]\nname = 'apple'\n[fruits.physical]\ncolor = 'red'\n[[fruits.varieties]]\nname = 'red delicious'\n[[fruits]]\nname='banana'",
    # dates
    "a = 1979-05-27T07:32:00Z", "a = 1979-05-27T00:32:00-07:00", "a = 1979-05-27T00:32:00.999999-07:00", "a = 1979-05-27 07:32:00Z",
    "a = 1979-05-27T07:32:00", "a = 1979-05-27t07:32:00.1z", "a = 1979-05-27", "a = 07:32:00", "a = 00:32:00.999999", "a = 2000-02-29",
    "a = 1979-05-27 07:32:00.123456789 # c", "a = 0001-01-01", "a = 9999-12-31T23:59:59+23:59", "a = [1979-05-27 07:32:00, 1]",
    "a = 1979-05-27 # c", "a = 1979-05-27 \nb = 1",
    # a recipe
    "seed = 0\n[model]\npath = 'x'\n[data]\nbatch = 32\n[aliases]\nbackbone = ['conv1', 'layer[1-4]']\n[[phase]]\nepochs = 2\n"
    "freeze = ['backbone']\n[[phase]]\nlr_coefficients = { layer4 = 0.1 }\nuntil = { metric = 'x', patience = 2 }\n",
]

INVALID = [
    "a", "a =", "= 1", "a = 1 b = 2", "a = 1\na = 2", "a b = 1", "a.b", ".a = 1", "a. = 1", "a..b = 1", "a = = 1", "a == 1", "é = 1",
    '"a = 1', "'a = 1", '"""a""" = 1', "'''a''' = 1", '"a\nb" = 1', "a\n= 1", "a =\n1", "a!b = 1", "a = 1\n\"a\" = 2", "[a]\nb=1\nb=2",
    "a = 1\na.b = 2", "a.b = 1\na.b.c = 2", "a.b = 1\na = 2", "a = {b = 1}\na.c = 2", "a = []\na.b = 1", "a.b.c = 1\na.b = 2",
    # integers
    "a = 01", "a = +01", "a = -01", "a = 00", "a = 1__0", "a = _1", "a = 1_", "a = 0x", "a = 0xG", "a = 0o8", "a = 0b2", "a = +0x1", "a = -0b1",
    "a = 0X1", "a = 0x_1", "a = 0x1_", "a = 1a", "a = --1", "a = +-1", "a = 1 2", "a = 0_0", "a = +", "a = -", "a = 0b", "a = 0o",
    "a = 0xFFFFFFFFFFFFFFFFF1_", "a = 1,000",
    # floats
    "a = .7", "a = 7.", "a = 3.e+20", "a = 1.e1", "a = 1e", "a = 1e+", "a = 1.2.3", "a = 1._2", "a = 1_.2", "a = 1.2_", "a = 1e_2", "a = 1e2_",
    "a = 03.14", "a = -03.14", "a = 00.1", "a = Inf", "a = NaN", "a = +-inf", "a = infinity", "a = nano", "a = in", "a = 1e2.3", "a = 0x1.8p1",
    "a = 1e1.0", "a = .e1", "a = e1", "a = 1ee2", "a = +.5", "a = 0e", "a = 1f", "a = 1.0f",
    # booleans
    "a = True", "a = FALSE", "a = tru", "a = truee", "a = true false", "a = yes", "a = on",
    # strings
    'a = "', 'a = "x', 'a = "x\ny"', "a = 'x\ny'", 'a = "\\x41"', 'a = "\\e"', 'a = "\\ "', 'a = "\\u12"', 'a = "\\uD800"', 'a = "\\U00110000"',
    'a = "\\uDFFF"', 'a = "\\u123G"', 'a = "\\U1234567"', 'a = "a" "b"', 'a = """x', "a = '''x", 'a = """x""', 'a = """x\\ y"""', 'a = """a"""""""',
    "a = ''''''''''", 'a = "\\', "a = \"\x01\"", "a = '\x1f'", 'a = "\x7f"', 'a = """\x00"""', "a = '''\x0b'''", 'a = "\r"', 'a = """\r"""',
    "a = 'it's'", "a = \"x'", 'a = \\"x"', 'a = "\\a"', 'a = """\\q"""', "a = hello", "a = /path", "a = *", "a = @x", 'a = "x\\',
    # comments
    "# \x00", "# \x01", "# \x7f", "# \r x", "a = 1 # \x1b", "a = 1 // x", "a = 1 ; x", "; x", "/* x */",
    # arrays
    "a = [", "a = [1", "a = [1,", "a = [1 2]", "a = [,]", "a = [,1]", "a = [1,,2]", "a = [1,,]", "a = ]", "a = [1]]", "a = [[1]", "a = [1}", "a = [b = 1]",
    "a = [1 # ]", "a = [1\n2]", "a = [\r]", "a = [1;2]",
    # inline tables
    "a = {", "a = {b", "a = {b = 1", "a = {b = 1,}", "a = {,}", "a = {b = 1,, c = 2}", "a = {b = 1 c = 2}", "a = {b = 1\n}", "a = {\nb = 1}", "a = {b}",
    "a = {b = 1, b = 2}", "a = {b.c = 1, b = 2}", "a = {b = 1, b.c = 2}", "a = {b = {}, b.c = 1}", "a = {b = {c = 1}, b.d = 2}", "a = { # c\n}",
    "a = {b = 1}\n[a]", "a = {b = {}}\n[a.b]", "a = {b = {}}\n[a.b.c]", "a = {}\n[a.c]", "[x]\na = {}\n[x.a.b]", "a = [{}]\n[a.b]", "a = {}}", "a = {1}",
    "a = {b = 1 # c}", "a = { b = [}", "a = { , b = 1 }", "a = {= 1}", "a = {b = }",
    # tables
    "[]", "[ ]", "[a", "[a]]", "a]", "[a]b", "[a] b = 1", "[.a]", "[a.]", "[a..b]", "[a b]", "[a]\n[a]", "[a]\nb = 1\n[a.b]", "a = 1\n[a]", "a = 1\n[a.b]",
    "[a.b]\n[a.b]", "[a\n]", "[\"a]", "[é]", "[a]\n[a.b]\n[a]", "a.b = 1\n[a]", "a.b.c = 1\n[a.b]", "[a]\nb.c = 1\n[a.b]", "[a.b.c]\nz=9\n[a]\nb.c.t = 1",
    "[a.b.c.d]\nz=9\n[a]\nb.c.d.k.t = 1", "[fruit]\napple.color=1\n[fruit.apple]", "[fruit]\napple.taste.sweet=true\n[fruit.apple.taste]", "[[a.b]", "[ [a]]",
    "[[a] ]", "[a.b.c]\n[a]\nb.d = 1\n[a.b]", "[=]", "[a=1]", "[a#b]", "[\n]", "[']", "[a]=1", "[a],", "[a].b", "a = 1 [b]",
    # arrays of tables
    "[[a", "[[a]", "[[]]", "[[a]]]", "[[a]]\n[a]", "[a]\n[[a]]", "a = []\n[[a]]", "a = [{}]\n[[a]]", "a = 1\n[[a]]", "[[a]]\nb=1\n[[a.b]]", "[[a]]\n[[a.b]]\n[a.b]",
    "[[a]]\n[a.b]\n[[a.b]]", "a.b = 1\n[[a]]", "[[a.b]]\n[a]\nb.c = 1", "[a.b]\n[[a]]", "[[a]]\n[a.b]\n[a.b]", "a = {}\n[[a]]", "a = {}\n[[a.b]]", "[[a]]\nb = []\n[[a.b]]",
    # dates
    "a = 1979-13-01", "a = 1979-00-01", "a = 1979-02-30", "a = 2023-02-29", "a = 1900-02-29", "a = 1979-04-31", "a = 1979-05-00", "a = 1979-5-27", "a = 79-05-27",
    "a = 1979-05-27T", "a = 1979-05-27T25:00:00", "a = 1979-05-27T07:60:00", "a = 1979-05-27T07:32:61", "a = 1979-05-27T07:32", "a = 24:00:00", "a = 07:32",
    "a = 07:32:0", "a = 7:32:00", "a = 07:32:00.", "a = 07:32:00Z", "a = 1979-05-27T07:32:00+", "a = 1979-05-27T07:32:00+7:00", "a = 1979-05-27T07:32:00+24:00",
    "a = 1979-05-27T07:32:00+07:60", "a = 1979-05-27 07:32", "a = 1979-05-27  07:32:00", "a = 1979-05-27Z", "a = 1979-05-27T07:32:00.Z", "a = 1979-05-27x",
    "a = 0000-01-01", "a = 1979-05-27T07:32:00+0700", "a = 19790-05-27", "a = 1979-05-27T07:32:00 Z", "a = 1979_05-27", "a = 1979-05-27-07:00",
    # bytes
    "\ufeffa = 1", "a = 1\x00", "\x00", "a\x00 = 1", "a = 1\x0c", "\x0b", "a = 1\r", "\r", "a = 1\rb = 2", "a\u00a0= 1", "a =\u00a01", "a = 1\u2028b = 2",
]

NOT_UTF8 = [b"a = '\xff'", b"a = '\xc0\x80'", b"# \xed\xa0\x80", b"a = '\xe2\x82'", b"\x80", b"a = '\xf4\x90\x80\x80'", b"a = '\xf8\x88\x80\x80\x80'",
            b"'\xc3' = 1", b"a = '\xe0\x80\x80'", b"a = '\xf0\x80\x80\x80'", b"\xfe\xff\x00a"]

GOOD_UTF8 = ["a = '\u0080\u07ff\u0800\uffff'", "a = '\U00010000\U0010ffff'", "a = '\ud7ff\ue000'", "# \u0085 \ufeff", "a = '\u0085\u2028'"]

TOKENS = ["[", "]", "[[", "]]", "{", "}", "=", ",", ".", "\n", "#", '"', "'", '"""', "'''", "\\", " ", "\t", "\r\n", "a", "b", "1", "0", "_", "-", "+", ":", "e", "x",
          "true", "inf", "1979-05-27", "07:32:00", "\\u0041", "a.b", "[a]\n", "[[a]]\n", "a = 1\n", "a.b = 2\n", "{a=1}", "[1]", "é", "\x01", "\r"]


def escape(data):
    return "".join({0x0A: "\\n", 0x09: "\\t", 0x0D: "\\r", 0x5C: "\\\\"}.get(c, chr(c) if 0x20 <= c <= 0x7E else "\\x%02x" % c) for c in data)


def quoted(s):
    return '"' + "".join(chr(c) if 0x20 <= c <= 0x7E and c not in b'"\\' else "\\x%02x" % c for c in s.encode()) + '"'


class Skip(Exception):
    pass


def tree(v, text):
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, int):
        if not -2**63 <= v < 2**63:
            raise Skip
        return str(v)
    if isinstance(v, float):
        if math.isinf(v) and "inf" not in text:
            raise Skip
        return "fnan" if math.isnan(v) else "f%016x" % struct.unpack("<Q", struct.pack("<d", v))[0]
    if isinstance(v, str):
        return quoted(v)
    if isinstance(v, (datetime.datetime, datetime.date, datetime.time)):
        return "date"
    if isinstance(v, list):
        return "[" + ",".join(tree(x, text) for x in v) + "]"
    return "{" + ",".join(quoted(k) + "=" + tree(x, text) for k, x in v.items()) + "}"


def expected(data):
    try:
        text = data.decode()
        return tree(tomllib.loads(text), text)
    except Skip:
        return ""
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return "error"


def mutate(rng, text):
    for _ in range(rng.randint(1, 3)):
        at = rng.randint(0, len(text))
        end = min(len(text), at + rng.randint(0, 3))
        kind = rng.randrange(4)
        if kind == 0:
            text = text[:at] + rng.choice(TOKENS) + text[at:]
        elif kind == 1:
            text = text[:at] + text[end:]
        elif kind == 2:
            text = text[:at] + rng.choice(TOKENS) + text[end:]
        else:
            text = text + "\n" + rng.choice(VALID)
    return text


def show(document, seen):
    want = expected(document)
    if want and document not in seen:
        print(escape(document) + "\t" + want)
    seen.add(document)


def main():
    rng = random.Random(1)
    documents = [d.encode() for d in VALID + INVALID + GOOD_UTF8] + NOT_UTF8
    for d in VALID:
        assert expected(d.encode()) != "error", d
    for d in INVALID:
        assert expected(d.encode()) == "error", d
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2500
    seen = set()
    for d in documents:
        show(d, seen)
    for i in range(count):
        if i % 5 == 4:
            d = "".join(rng.choice(TOKENS) for _ in range(rng.randint(2, 8)))
        else:
            d = mutate(rng, rng.choice(VALID))
        if i % 4 == 0 or expected(d.encode()) != "error":
            show(d.encode(), seen)


main()
