-- Looking before switching on: dry runs and the compiled statement.

create or replace function flywheel.test_validator(name text, n integer default 100)
returns table (
  trace_id uuid,
  span_id uuid,
  status text,
  passed boolean,
  score double precision,
  reason text,
  error text,
  input text,
  output text,
  status_count bigint
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
#variable_conflict use_column
declare
  v_version flywheel._validator_versions := flywheel._latest_version(flywheel._find_validator(name));
begin
  if v_version.language = 'llm' then
    raise exception '% is a judge, and nothing is called from inside the database', quote_ident(name)
      using errcode = 'LF002', hint = 'See what it would be asked: select * from flywheel.preview_prompts(...). Ask it: flywheel-db validators test.';
  end if;
  if v_version.language = 'python' and not flywheel._has_python() then
    raise exception 'this database has no Python inside, so % cannot be tried here', quote_ident(name)
      using errcode = 'LF103', hint = 'A superuser installs it: flywheel-db migrate, where plpython3u is available.';
  end if;
  if n is null or n < 1 then
    raise exception 'n is %', coalesce(n::text, 'null')
      using errcode = 'LF002', hint = 'Give the number of recent rows to try, at least 1.';
  end if;
  return query
    select r.trace_id, nullif(r.span_id, flywheel._no_span()), flywheel._status_of(r.code),
      case r.code when 1 then true when 0 then false end,
      r.score, r.reason, r.error,
      case when v_version.subject = 'span' then s.input else t.input end,
      case when v_version.subject = 'span' then s.output else t.output end,
      count(*) over (partition by r.code)
    from flywheel._try_version(v_version.version_id, n) as r
    left join flywheel.traces as t on t.trace_id = r.trace_id
    left join flywheel.spans as s on s.trace_id = r.trace_id and s.span_id = r.span_id;
end
$$;

comment on function flywheel.test_validator(text, integer) is
  'Dry run of a validator''s newest version, enabled or not, over the latest n rows it applies to: one row per result, status_count rows of each status. Nothing is stored.';

create or replace function flywheel.evaluate(name text, given jsonb)
returns table (
  n bigint,
  status text,
  passed boolean,
  score double precision,
  reason text,
  error text,
  predicted_label text,
  confidence real
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_version flywheel._validator_versions := flywheel._latest_version(flywheel._find_validator(name));
begin
  if given is null or jsonb_typeof(given) <> 'array' or exists (
    select from jsonb_array_elements(given) as g (value) where jsonb_typeof(g.value) <> 'object'
  ) then
    raise exception 'the rows are not a JSON array of objects'
      using errcode = 'LF002', hint = 'For example: ''[{"input": "Hi", "output": "Hello"}]''.';
  end if;
  if v_version.language = 'llm' then
    raise exception '% is a judge, and nothing is called from inside the database', quote_ident(name)
      using errcode = 'LF002', hint = 'Insert the rows as traces of a pipeline of their own and let a worker judge them.';
  end if;
  if v_version.language = 'python' and not flywheel._has_python() then
    raise exception 'this database has no Python inside, so % cannot be evaluated here', quote_ident(name)
      using errcode = 'LF103', hint = 'A superuser installs it: flywheel-db migrate, where plpython3u is available.';
  end if;
  return query
    select r.n, flywheel._status_of(r.code), case r.code when 1 then true when 0 then false end,
      r.score, r.reason, r.error, r.predicted_label, r.confidence
    from flywheel._try_rows(v_version.version_id, given) as r
    order by r.n;
end
$$;

comment on function flywheel.evaluate(text, jsonb) is
  'What a validator''s newest version says of rows that are in no table: a JSON array of objects with the columns of a trace (or span). n counts from 1. Nothing is stored.';

create or replace function flywheel.explain_validators(target text default 'traces')
returns text
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if target is null or target not in ('traces', 'spans') then
    raise exception 'there is nothing compiled for %', coalesce(quote_literal(target), 'null')
      using errcode = 'LF002', hint = 'Use ''traces'' or ''spans''.';
  end if;
  return (
    select p.prosrc
    from pg_proc as p
    where p.oid = format('flywheel._tg_%s__validate_inserted()', target)::regprocedure
  );
end
$$;

comment on function flywheel.explain_validators(text) is
  'The statement that validates each INSERT into traces or spans, as it was compiled from the enabled validators.';
