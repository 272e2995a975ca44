-- Creating, changing, switching and dropping validators. Each call starts with _begin_change(),
-- which serializes the admins, and ends with _compile() if the enabled set changed.

-- With the rights of the caller, because that is who makes the code of a Python validator.
create or replace function flywheel.create_validator(
  name text,
  language text,
  body text,
  subject text default 'trace',
  pipeline text default null,
  node text default null,
  kind text default null,
  mode text default 'inline',
  on_fail text default 'record',
  on_error text default 'allow',
  sample_rate double precision default 1,
  params jsonb default '{}',
  score text default null,
  reason text default null,
  model text default null,
  few_shot_k integer default null,
  description text default null,
  review_every interval default null,
  enabled boolean default true,
  budget jsonb default '{}'
)
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_version flywheel._validator_versions;
begin
  v_version.language := language;
  v_version.subject := subject;
  v_version.mode := mode;
  v_version.body := body;
  v_version.params := params;
  v_version.score := score;
  v_version.reason := reason;
  v_version.pipeline := pipeline;
  v_version.node := node;
  v_version.kind := kind;
  v_version.sample_rate := sample_rate;
  v_version.on_fail := on_fail;
  v_version.on_error := on_error;
  v_version.model := model;
  v_version.few_shot_k := few_shot_k;
  v_version.description := description;
  v_version.review_every := review_every;
  v_version.budget := budget;
  if language = 'python' then
    v_version.code_id := flywheel._create_python_code(body);
  end if;
  return flywheel._create_validator(name, v_version, enabled);
end
$$;

comment on function flywheel.create_validator(
  text, text, text, text, text, text, text, text, text, text, double precision, jsonb, text, text, text,
  integer, text, interval, boolean, jsonb
) is
  'Creates a validator and, unless enabled => false, has every row that arrives from now on checked by it. Returns its id. In SQL, body is an expression over the row and params that is true when the row is good; null means there was nothing to decide. In Python, which asks for a superuser, it is the body of a function of the same names. In knn it names a rule: topic, anomaly or nearest_attack.';

create or replace function flywheel.alter_validator(
  name text,
  body text default null,
  params jsonb default null,
  score text default null,
  reason text default null,
  pipeline text default null,
  node text default null,
  kind text default null,
  mode text default null,
  on_fail text default null,
  on_error text default null,
  sample_rate double precision default null,
  model text default null,
  few_shot_k integer default null,
  description text default null,
  review_every interval default null,
  clear text[] default '{}',
  budget jsonb default null
)
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_change flywheel._validator_versions;
begin
  v_change.body := body;
  v_change.params := params;
  v_change.score := score;
  v_change.reason := reason;
  v_change.pipeline := pipeline;
  v_change.node := node;
  v_change.kind := kind;
  v_change.mode := mode;
  v_change.on_fail := on_fail;
  v_change.on_error := on_error;
  v_change.sample_rate := sample_rate;
  v_change.model := model;
  v_change.few_shot_k := few_shot_k;
  v_change.description := description;
  v_change.review_every := review_every;
  v_change.budget := budget;
  if body is not null and exists (
    select from flywheel.validators as v where v.name = alter_validator.name and v.language = 'python' and v.builtin is null
  ) then
    v_change.code_id := flywheel._create_python_code(body);
  end if;
  return flywheel._alter_validator(name, v_change, clear);
end
$$;

comment on function flywheel.alter_validator(
  text, text, jsonb, text, text, text, text, text, text, text, text, double precision, text, integer, text,
  interval, text[], jsonb
) is
  'Makes a new version of a validator; what is not given stays, what clear names is removed. Verdicts of the old version stay and name it. A new body of a Python validator asks for a superuser. Returns the new version''s number.';

create or replace function flywheel.enable_validator(name text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_generation integer := flywheel._begin_change();
  v_version flywheel._validator_versions;
begin
  v_version := flywheel._latest_version(flywheel._find_validator(name));
  perform flywheel._close_breaker(v_version.version_id);
  perform flywheel._switch_version(v_version.validator_id, v_version.version_id, v_generation);
end
$$;

comment on function flywheel.enable_validator(text) is
  'Has every row that arrives from now on checked by the validator''s newest version. If its circuit breaker has moved it to the queue, it runs inside the INSERT again, and sweep() decides what was enqueued meanwhile. Otherwise nothing changes if it is enabled.';

create or replace function flywheel.disable_validator(name text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_generation integer := flywheel._begin_change();
begin
  perform flywheel._switch_version(flywheel._find_validator(name), null, v_generation);
end
$$;

comment on function flywheel.disable_validator(text) is
  'Stops checking new rows. Verdicts stay; enable_validator() turns it on again.';

create or replace function flywheel.drop_validator(name text, delete_verdicts boolean default false)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_generation integer := flywheel._begin_change();
  v_validator_id integer := flywheel._find_validator(name);
  v_version_ids integer[] := array(
    select v.version_id from flywheel._validator_versions as v where v.validator_id = v_validator_id
  );
  v_code_ids integer[] := array(
    select distinct v.code_id from flywheel._validator_versions as v
    where v.validator_id = v_validator_id and v.code_id is not null
  );
begin
  perform flywheel._tell_metrics_of(name);
  perform flywheel._switch_version(v_validator_id, null, v_generation);
  delete from flywheel._jobs as j where j.version_id = any (v_version_ids);
  -- What was owed is owed no more, should the name come back.
  update flywheel._validator_versions as v
  set active_generations = '{}'
  where v.version_id = any (v_version_ids) and (v.mode = 'queued' or delete_verdicts);

  if delete_verdicts then
    delete from flywheel._verdicts as v where v.version_id = any (v_version_ids);
    -- Labels refer to the validator. The lock waits for one that is being made.
    perform from flywheel._validators as d where d.validator_id = v_validator_id for update;
  end if;
  if delete_verdicts and not exists (select from flywheel._labels as l where l.validator_id = v_validator_id) then
    perform flywheel._drop_version_functions(id) from unnest(v_version_ids) as id;
    perform flywheel._drop_references(v_validator_id);
    delete from flywheel._validators as d where d.validator_id = v_validator_id;
    perform flywheel._drop_python_code(id) from unnest(v_code_ids) as id;
  else
    update flywheel._validators as d set dropped_at = flywheel.now() where d.validator_id = v_validator_id;
  end if;
end
$$;

comment on function flywheel.drop_validator(text, boolean) is
  'Removes a validator. Its verdicts stay readable unless delete_verdicts => true, and labels always do; creating the name again goes on with its next version.';
