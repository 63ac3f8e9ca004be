"""What an app is, and what the files that start apps have in common."""
import pathlib
import shutil

HERE = pathlib.Path(__file__).resolve().parent
MARKER = b"SECRET-"
# No other answer has this length: it betrays the secret in an answer to HEAD.
LENGTH = 4099
LEFT_BY_APPS = ["index.php", ".DAV"]
# A chunk of 2^64 bytes that breaks off lets Werkzeug's own server fill the memory.
LIMITED = ["prlimit", f"--as={1 << 30}"]


class App:
    """echoes: shows the headers that it got at /public/echo and /private/echo. counts: tells at /public/served how often it served
    the secret. has_aliases: serves the secret by a name that does not lie in /private, such as /Private or /index.php/private, for
    which a public / beside it is no protection (docs/configuration.md). least: with fewer odd ways to the secret in 5,000
    requests, a green run would say little; 0 where the app accepts next to none. root: its tree of files."""

    def __init__(self, name, echoes=False, counts=False, has_aliases=False, least=20):
        self.name, self.echoes, self.counts, self.has_aliases, self.least = name, echoes, counts, has_aliases, least
        self.port, self.root = 0, None
        self.host = f"{name}.test"


class Group:
    """The apps of one process."""

    def __init__(self, start, *apps, needs=()):
        self.start, self.apps, self.needs = start, apps, needs


def make_tree(work, name):
    root = work / "trees" / name
    (root / "public").mkdir(parents=True)
    (root / "private").mkdir()
    (root / "private/secret").write_bytes(f"SECRET-{name}\n".encode().ljust(LENGTH, b"."))
    (root / "public/page").write_bytes(b"the public page\n")
    shutil.copytree(root, original(root))
    return root


def original(root):
    return root.with_name(root.name + "-original")


def was_written(root):
    """Whether anything that is protected has changed; if so, it is made as it was."""
    now, before = ({path.relative_to(tree): path.is_file() and path.read_bytes() for path in (tree / "private").rglob("*")
                    if path.name not in LEFT_BY_APPS} for tree in (root, original(root)))
    if now == before:
        return False
    shutil.rmtree(root / "private", ignore_errors=True)
    shutil.copytree(original(root) / "private", root / "private", copy_function=shutil.copyfile)
    for path in (root / "private", root / "private/secret"):
        path.chmod(0o777)
    return True


def tools():
    """Where run.sh has put what no package of Debian holds."""
    return HERE.parent.parent / "target/differential"
