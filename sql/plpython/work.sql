-- flywheel.work() where there is Python: the loop is in flywheel_pl.work. Applied like runtime.sql.

create or replace procedure flywheel._work(max_seconds double precision, concurrency integer)
language plpython3u
as $flywheel$
import os
found = GD.get("flywheel_pl")
if found is None or found[0] != {{release}}:
    plpy.execute("select flywheel._boot_python()")
from flywheel_pl.work.database import Database, Interrupted
from flywheel_pl.work.loop import Work

LEASE = 120.0
hosts = plpy.execute("select flywheel._allowed_hosts() as hosts")[0]["hosts"]
database = Database(plpy, "flywheel.work()", LEASE)
work = Work(database, os.environ, hosts or "", LEASE)
database.start({"kinds": ["llm", "sql", "embeddings"], "concurrency": concurrency, "pid": os.getpid()})
try:
    work.run(max_seconds, concurrency)
except Interrupted as interrupted:
    raise interrupted.__cause__
finally:
    database.stop()
for name, problem in sorted(work.refused.items()):
    plpy.warning("the model %s is not called: %s" % (name, problem))
plpy.notice("%d verdicts recorded, %d failures, %d results dropped" % (work.recorded, work.failed, work.dropped))
if work.embedded:
    plpy.notice("%d texts embedded" % work.embedded)
$flywheel$;

comment on procedure flywheel._work(double precision, integer) is
  'The body of flywheel.work(): claims, calls in threads, records, commits.';

-- What only a superuser can write: the server's own configuration files. A session, a role or a
-- database may say something else, and are not asked.
create or replace function flywheel._allowed_hosts()
returns text
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select f.setting
  from pg_file_settings as f
  where f.name = 'flywheel.allowed_hosts' and f.applied
  order by f.seqno desc
  limit 1;
$$;

comment on function flywheel._allowed_hosts() is
  'The hosts that flywheel.work() may call: flywheel.allowed_hosts of postgresql.conf or ALTER SYSTEM.';
