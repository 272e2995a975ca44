-- Switching on a built-in check.

create or replace function flywheel.enable_builtin(
  builtin text,
  name text default null,
  pipeline text default null,
  params jsonb default '{}',
  subject text default 'trace',
  node text default null,
  kind text default null,
  mode text default 'inline',
  on_fail text default 'record',
  on_error text default 'allow',
  sample_rate double precision default 1,
  description text default null,
  review_every interval default null,
  enabled boolean default true,
  budget jsonb default '{}'
)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_version flywheel._validator_versions;
begin
  v_version.builtin := flywheel._find_builtin(builtin);
  v_version.params := params;
  v_version.subject := subject;
  v_version.pipeline := pipeline;
  v_version.node := node;
  v_version.kind := kind;
  v_version.mode := mode;
  v_version.on_fail := on_fail;
  v_version.on_error := on_error;
  v_version.sample_rate := sample_rate;
  v_version.description := description;
  v_version.review_every := review_every;
  v_version.budget := budget;
  return flywheel._create_validator(coalesce(name, builtin), v_version, enabled);
end
$$;

comment on function flywheel.enable_builtin(
  text, text, text, jsonb, text, text, text, text, text, text, double precision, text, interval, boolean, jsonb
) is
  'Creates a validator from a built-in check, under the check''s name unless another is given. Returns its id. flywheel.builtin_validators lists the checks and their params; alter_validator(params => ...) changes them later.';
