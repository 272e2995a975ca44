-- The Python runtime. This file is a template: migrate writes the sources of flywheel_pl into it,
-- and applies it only where it may (plpython3u asks for a superuser).
--
-- Sources travel in the body of a function and not in a table: who may replace the code is then who
-- may create functions in plpython3u, and nobody's UPDATE can. A backend imports from here what it
-- needs, once; after an upgrade the release differs, and live sessions import anew.

create extension if not exists plpython3u;

create or replace function flywheel._boot_python()
returns void
language plpython3u
volatile
as $flywheel$
import marshal
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER
from binascii import a2b_base64

RELEASE = {{release}}
SOURCES = GD["flywheel_pl_core"] = {{core}}
CODE = {}
try:
    plpy.execute("select flywheel._load_python_bytecode()")
    if GD["flywheel_pl_bytecode"][:2] == (MAGIC_NUMBER, RELEASE):
        CODE = marshal.loads(a2b_base64(GD["flywheel_pl_bytecode"][2]))
except plpy.SPIError:
    pass  # not made yet

class Finder:
    """Imports the packages that travelled here."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in {{packages}}:
            return None
        if name not in SOURCES and "flywheel_pl_library" not in GD:
            plpy.execute("select flywheel._load_python_library()")
        found = SOURCES.get(name) or GD["flywheel_pl_library"].get(name)
        return found and ModuleSpec(name, self, origin="the database", is_package=found[0])

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        name = module.__name__
        code = CODE.get(name)
        if code is None:
            source = (SOURCES.get(name) or GD["flywheel_pl_library"][name])[1]
            code = compile(source, name.replace(".", "/") + ".py", "exec")
        exec(code, module.__dict__)

GD.pop("flywheel_pl_library", None)
sys.meta_path[:] = [f for f in sys.meta_path if type(f).__qualname__ != Finder.__qualname__]
for name in [n for n in sys.modules if n.split(".")[0] in {{packages}}]:
    del sys.modules[name]
sys.meta_path.insert(0, Finder())
from flywheel_pl.runtime import Runtime
GD["flywheel_pl"] = (RELEASE, Runtime(lambda code: plpy.execute("select flywheel._python_%d()" % code)))
$flywheel$;

comment on function flywheel._boot_python() is
  'Holds the core of flywheel_pl and makes the packages that travelled importable in this backend.';

-- Apart from the core, because a backend pays for reading what it may never need.
create or replace function flywheel._load_python_library()
returns void
language plpython3u
volatile
as $flywheel$
GD["flywheel_pl_library"] = {{library}}
$flywheel$;

comment on function flywheel._load_python_library() is
  'Holds the built-in checks in Python and the libraries they import.';

create or replace function flywheel._run_python(
  spec text, texts text[], row_count integer, masks text[], paused integer[], statement double precision
)
returns flywheel._python_results
language plpython3u
volatile
as $flywheel$
found = GD.get("flywheel_pl")
if found is None or found[0] != {{release}}:
    plpy.execute("select flywheel._boot_python()")
    found = GD["flywheel_pl"]
return found[1].run(spec, texts, row_count, masks, paused, statement).as_tuple()
$flywheel$;

comment on function flywheel._run_python(text, text[], integer, text[], integer[], double precision) is
  'Runs a set of Python validators over a batch of rows: texts has a row per column of the set, masks a text per validator ("1" for each row it applies to).';

create or replace function flywheel._describe_builtin(module text, params text)
returns text
language plpython3u
volatile
as $flywheel$
found = GD.get("flywheel_pl")
if found is None or found[0] != {{release}}:
    plpy.execute("select flywheel._boot_python()")
    found = GD["flywheel_pl"]
return found[1].describe_builtin(module, params)
$flywheel$;

comment on function flywheel._describe_builtin(text, text) is
  'What is wrong with the params of a built-in check; null if nothing is.';

create or replace function flywheel._describe_python(
  body text, columns text[], out reads text[], out problem text
)
language plpython3u
volatile
as $flywheel$
found = GD.get("flywheel_pl")
if found is None or found[0] != {{release}}:
    plpy.execute("select flywheel._boot_python()")
from flywheel_pl import source
try:
    return source.reads(body, columns), None
except source.BodyError as error:
    return [], str(error)
$flywheel$;

comment on function flywheel._describe_python(text, text[]) is
  'Compiles the body of a Python validator without running it: the columns it reads, or why it does not compile.';

-- The core compiled for the Python of this server, which saves a cold backend a fifth of its start.
-- Another Python, after an upgrade of the machine or in a restored dump, compiles the sources.
create or replace function flywheel._compile_python()
returns text
language plpython3u
volatile
as $flywheel$
import marshal
from _frozen_importlib_external import MAGIC_NUMBER
from binascii import b2a_base64

plpy.execute("select flywheel._boot_python()")
codes = {
    name: compile(source, name.replace(".", "/") + ".py", "exec")
    for name, (_, source) in GD["flywheel_pl_core"].items()
}
# Version 2 of the format: the same bytes each time, so that equal installations have equal dumps.
written = b2a_base64(marshal.dumps(codes, 2), newline=False).decode()
return """create or replace function flywheel._load_python_bytecode()
returns void
language plpython3u
volatile
as $bytecode$
GD["flywheel_pl_bytecode"] = %r
$bytecode$""" % ((MAGIC_NUMBER, {{release}}, written),)
$flywheel$;

comment on function flywheel._compile_python() is
  'The statement that makes flywheel._load_python_bytecode().';

do $$
begin
  execute flywheel._compile_python();
end
$$;

comment on function flywheel._load_python_bytecode() is
  'Holds the core of flywheel_pl as bytecode of the Python that compiled it.';
