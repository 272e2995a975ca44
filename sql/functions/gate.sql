-- The gate an application asks before it calls its LLM: the enabled inline validators that do not
-- read what only exists afterwards (output, ended_at, status). Sampling does not apply: a gate is
-- asked about every input.

create or replace function flywheel.check_input(
  input text,
  pipeline text default 'default',
  user_id text default null,
  attributes jsonb default '{}',
  record boolean default false
)
returns table (validator text, passed boolean, score double precision, reason text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_trace_id constant uuid := flywheel.uuidv7();
  v_pipeline constant text := coalesce(nullif(check_input.pipeline, ''), 'default');
  v_attributes constant jsonb := coalesce(check_input.attributes, '{}');
  v_results flywheel._outcome[];
  v_version_ids integer[];
begin
  select array_agg(row (g.code, g.score, g.reason, g.error)::flywheel._outcome), array_agg(g.version_id)
  into v_results, v_version_ids
  from flywheel._gate(v_trace_id, v_pipeline, check_input.user_id, check_input.input, v_attributes) as g;

  if record and exists (
    select
    from rows from (unnest(v_results), unnest(v_version_ids)) as g (code, score, reason, error, version_id)
    join flywheel._validator_versions as v on v.version_id = g.version_id
    where g.code = 0 or g.code = 3 and v.on_error = 'reject'
  ) then
    insert into flywheel.traces (trace_id, pipeline, user_id, input, attributes, status)
    values (
      v_trace_id, v_pipeline, check_input.user_id, check_input.input, v_attributes, 'blocked'
    );
  end if;

  return query
    select
      d.name,
      case
        when g.code = 1 then true
        when g.code = 0 then false
        when g.code = 3 and v.on_error = 'reject' then false
      end,
      g.score,
      case
        when g.code = 3 then 'error: ' || g.error
        when g.code = 0 then coalesce(g.reason, v.description, case when v.language = 'sql' then 'not: ' || v.body end)
        else g.reason
      end
    from rows from (unnest(v_results), unnest(v_version_ids)) as g (code, score, reason, error, version_id)
    join flywheel._validator_versions as v on v.version_id = g.version_id
    join flywheel._validators as d on d.validator_id = v.validator_id
    order by d.name;
end
$$;

comment on function flywheel.check_input(text, text, text, jsonb, boolean) is
  'Runs the validators of a pipeline that read no output on an input, before the LLM is called. passed is null where there was nothing to decide or the check itself failed and on_error allows it. record => true keeps a refused input as a trace with status blocked.';

create or replace function flywheel.input_ok(
  input text,
  pipeline text default 'default',
  user_id text default null,
  attributes jsonb default '{}',
  record boolean default false
)
returns boolean
language sql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select coalesce(bool_and(c.passed is not false), true)
  from flywheel.check_input(
    input => input_ok.input, pipeline => input_ok.pipeline, user_id => input_ok.user_id,
    attributes => input_ok.attributes, record => input_ok.record
  ) as c;
$$;

comment on function flywheel.input_ok(text, text, text, jsonb, boolean) is
  'Whether no validator of the pipeline refuses the input: check_input() as one boolean.';
