-- From options to the stored, built and enabled version of a validator. The public functions that
-- come here are in functions/validators.sql and functions/builtins.sql.

create or replace function flywheel._check_validator(version flywheel._validator_versions)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if version.language is null or version.language not in ('sql', 'python', 'llm', 'knn') then
    raise exception 'the language % is not available', coalesce(quote_literal(version.language), 'null')
      using errcode = 'LF001', hint = 'The languages are ''sql'', ''python'', ''llm'' and ''knn''.';
  end if;
  if coalesce(version.body, '') !~ '\S' then
    raise exception 'the body is empty'
      using errcode = 'LF001',
        hint = case version.language
          when 'python' then 'Give the body of a Python function, for example: return len(output) < 2000'
          when 'knn' then 'Name a rule: ''topic'', ''anomaly'' or ''nearest_attack''.'
          when 'llm' then 'Give a criterion in words, for example: The reply answers the question. Or a template with {{input}} and {{output}}.'
          else 'Give an SQL expression over the row, for example: length(output) < 2000'
        end;
  end if;
  perform flywheel._check_budget(version.budget);
  if version.language = 'python' then
    if version.score is not null or version.reason is not null then
      raise exception 'score and reason are SQL expressions, and the language is python'
        using errcode = 'LF001', hint = 'Return them from the body: return {"passed": ok, "score": n, "reason": why}';
    end if;
  elsif version.budget <> '{}' then
    raise exception 'a budget is for Python, and the language is %', version.language
      using errcode = 'LF001',
        hint = case version.language
          when 'knn' then 'Leave budget out; a comparison takes the time its reference texts take.'
          when 'llm' then 'Leave budget out; calls are bounded by timeout_seconds and daily_budget_usd of the model.'
          else 'Leave budget out; an SQL validator is bounded by statement_timeout.'
        end;
  end if;
  if version.subject is null or version.subject not in ('trace', 'span') then
    raise exception 'the subject % is not available', coalesce(quote_literal(version.subject), 'null')
      using errcode = 'LF001', hint = 'This release validates a ''trace'' or a ''span''.';
  end if;
  if version.mode is null or version.mode not in ('inline', 'queued') then
    raise exception 'the mode % is unknown', coalesce(quote_literal(version.mode), 'null')
      using errcode = 'LF001', hint = 'Use ''inline'' or ''queued''.';
  end if;
  if version.on_fail is null or version.on_fail not in ('record', 'reject') then
    raise exception 'on_fail is %', coalesce(quote_literal(version.on_fail), 'null')
      using errcode = 'LF001', hint = 'Use ''record'' or ''reject''.';
  end if;
  if version.on_error is null or version.on_error not in ('allow', 'reject') then
    raise exception 'on_error is %', coalesce(quote_literal(version.on_error), 'null')
      using errcode = 'LF001', hint = 'Use ''allow'' or ''reject''.';
  end if;
  if version.language = 'llm' and 'reject' in (version.on_fail, version.on_error) then
    raise exception 'a judge cannot reject: the row is stored before the judge is asked'
      using errcode = 'LF001',
        hint = 'Leave on_fail and on_error out. What has to be kept out is a check in SQL or Python, or of flywheel.builtin_validators.';
  end if;
  if version.mode = 'queued' and 'reject' in (version.on_fail, version.on_error) then
    raise exception 'a queued validator cannot reject: the row is stored before it runs'
      using errcode = 'LF001', hint = 'Use mode => ''inline'', or on_fail => ''record'' and on_error => ''allow''.';
  end if;
  if version.sample_rate is null or not version.sample_rate between 0 and 1 then
    raise exception 'sample_rate is %', coalesce(version.sample_rate::text, 'null')
      using errcode = 'LF001', hint = 'Give the share of traces to judge, from 0 to 1.';
  end if;
  if version.params is null or jsonb_typeof(version.params) <> 'object' then
    raise exception 'params is not a JSON object' using errcode = 'LF001', hint = 'For example: params => ''{"max": 2000}''.';
  end if;
  if version.language = 'llm' then
    perform flywheel._check_judge(version);
  elsif version.language = 'knn' then
    perform flywheel._check_knn(version);
  end if;
  if version.subject = 'trace' and (version.node is not null or version.kind is not null) then
    raise exception 'node and kind filter spans, and the subject is the trace'
      using errcode = 'LF001', hint = 'Add subject => ''span'', or leave node and kind out.';
  end if;
  if version.few_shot_k < 0 then
    raise exception 'few_shot_k is negative' using errcode = 'LF001', hint = 'Give the number of examples, 0 for none.';
  end if;
end
$$;

comment on function flywheel._check_validator(flywheel._validator_versions) is
  'Refuses the options of a validator that make no sense, saying what to give instead.';

-- Stores a version, builds its functions and, if wanted, puts it in the place of the enabled one.
create or replace function flywheel._add_version(
  version flywheel._validator_versions, generation integer, enabled boolean
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_version_id integer;
begin
  if version.builtin is not null then
    version := flywheel._render_builtin(version);
  end if;
  -- No network inside the INSERT.
  if version.language = 'llm' then
    version.mode := 'queued';
  end if;
  perform flywheel._check_validator(version);
  if version.language = 'python' and version.mode = 'inline' and not flywheel._has_python() then
    if 'reject' in (version.on_fail, version.on_error) then
      raise exception 'a validator that rejects must run inside the INSERT, and this database has no Python'
        using errcode = 'LF001',
          hint = 'Have a superuser run flywheel-db migrate where plpython3u is available, or write the check in SQL.';
    end if;
    version.mode := 'queued';
    raise notice 'this database has no Python inside, so the validator is queued'
      using hint = 'A worker decides what is enqueued. flywheel-db doctor says what runs where.';
  end if;
  insert into flywheel._validator_versions (
    validator_id, version, language, subject, mode, body, params, score, reason, pipeline, node, kind,
    sample_rate, on_fail, on_error, model, few_shot_k, description, review_every, code_id, builtin, budget
  )
  select version.validator_id, coalesce(max(v.version), 0) + 1,
    version.language, version.subject, version.mode, version.body, version.params, version.score, version.reason,
    version.pipeline, version.node, version.kind, version.sample_rate, version.on_fail, version.on_error,
    version.model, version.few_shot_k, version.description, version.review_every,
    version.code_id, version.builtin, version.budget
  from flywheel._validator_versions as v
  where v.validator_id = version.validator_id
  returning version_id into v_version_id;

  perform flywheel._build_version(v_version_id);
  perform flywheel._switch_version(version.validator_id, case when enabled then v_version_id end, generation);
end
$$;

comment on function flywheel._add_version(flywheel._validator_versions, integer, boolean) is
  'Stores a new version of a validator and enables it if asked to.';

-- From this generation on, version_id (null for none) is the enabled version.
create or replace function flywheel._switch_version(validator_id integer, version_id integer, generation integer)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  update flywheel._validator_versions as v
  set active_generations = case
    when v.version_id = _switch_version.version_id
      then v.active_generations + int4multirange(int4range(_switch_version.generation, null))
    else v.active_generations - int4multirange(int4range(_switch_version.generation, null))
  end
  where v.validator_id = _switch_version.validator_id
    and (v.version_id = _switch_version.version_id or upper_inf(v.active_generations));
  perform flywheel._compile();
end
$$;

comment on function flywheel._switch_version(integer, integer, integer) is
  'Makes one version of a validator (or none) the enabled one and compiles the set.';

create or replace function flywheel._find_validator(name text)
returns integer
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_validator_id integer;
begin
  select d.validator_id into v_validator_id
  from flywheel._validators as d
  where d.name = _find_validator.name and d.dropped_at is null;
  if v_validator_id is null then
    raise exception 'there is no validator %', coalesce(quote_ident(name), 'null')
      using errcode = 'LF003',
        hint = coalesce(
          'There are: ' || (
            select string_agg(quote_ident(d.name), ', ' order by d.name)
            from (select d.name from flywheel._validators as d where d.dropped_at is null order by d.name limit 20) as d
          ),
          'None has been created yet: see flywheel.create_validator().'
        );
  end if;
  return v_validator_id;
end
$$;

comment on function flywheel._find_validator(text) is 'Id of a validator by its name; LF003 if there is none.';

create or replace function flywheel._latest_version(validator_id integer)
returns flywheel._validator_versions
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select v
  from flywheel._validator_versions as v
  where v.validator_id = _latest_version.validator_id
  order by v.version desc
  limit 1;
$$;

comment on function flywheel._latest_version(integer) is 'The newest version of a validator.';

-- What create_validator() and enable_builtin() come to. Granted to admins, who might call it by
-- themselves: a version with Python code is refused unless a superuser has made the code.
create or replace function flywheel._create_validator(
  name text, version flywheel._validator_versions, enabled boolean
)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_generation integer := flywheel._begin_change();
  v_validator record;
begin
  if btrim(coalesce(name, '')) = '' or length(name) > 200 then
    raise exception 'a validator needs a name of 1 to 200 characters' using errcode = 'LF001';
  end if;
  select d.validator_id, d.dropped_at into v_validator
  from flywheel._validators as d
  where d.name = _create_validator.name;

  if v_validator.validator_id is null then
    insert into flywheel._validators (name) values (_create_validator.name) returning validator_id into version.validator_id;
  elsif v_validator.dropped_at is null then
    raise exception 'there is a validator % already', quote_ident(name)
      using errcode = 'LF201', hint = 'Use flywheel.alter_validator() to make a new version of it, or drop it first.';
  else
    -- A dropped name goes on with its next version, so that old verdicts keep their meaning.
    version.validator_id := v_validator.validator_id;
    update flywheel._validators as d set dropped_at = null where d.validator_id = version.validator_id;
  end if;
  perform flywheel._add_version(version, v_generation, enabled);
  return version.validator_id;
end
$$;

comment on function flywheel._create_validator(text, flywheel._validator_versions, boolean) is
  'Creates a validator of a given first version.';

create or replace function flywheel._alter_validator(
  name text, change flywheel._validator_versions, clear text[]
)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_generation integer := flywheel._begin_change();
  v_version flywheel._validator_versions;
  v_clearable constant text[] := array[
    'score', 'reason', 'pipeline', 'node', 'kind', 'model', 'few_shot_k', 'description', 'review_every'
  ];
  v_enabled boolean;
begin
  if not clear <@ v_clearable then
    raise exception 'clear names %, which cannot be cleared',
      (select string_agg(quote_literal(c), ', ') from unnest(clear) as c where not c = any (v_clearable))
      using errcode = 'LF002', hint = 'These can: ' || array_to_string(v_clearable, ', ') || '.';
  end if;

  v_version := flywheel._latest_version(flywheel._find_validator(name));
  v_enabled := exists (
    select from flywheel._validator_versions as v
    where v.validator_id = v_version.validator_id and upper_inf(v.active_generations)
  );
  if v_version.builtin is not null and (change.body is not null or change.score is not null or change.reason is not null) then
    raise exception '% is the built-in check %, whose text is fixed', quote_ident(name), v_version.builtin
      using errcode = 'LF001', hint = 'Change its params, or create a validator of your own.';
  end if;

  v_version.code_id := coalesce(change.code_id, v_version.code_id);
  v_version.budget := coalesce(change.budget, v_version.budget);
  v_version.body := coalesce(change.body, v_version.body);
  -- Of a built-in check the other params stay, the side among them.
  v_version.params := case
    when v_version.builtin is not null then v_version.params || coalesce(change.params, '{}')
    else coalesce(change.params, v_version.params)
  end;
  v_version.score := case when 'score' = any (clear) then null else coalesce(change.score, v_version.score) end;
  v_version.reason := case when 'reason' = any (clear) then null else coalesce(change.reason, v_version.reason) end;
  v_version.pipeline := case when 'pipeline' = any (clear) then null else coalesce(change.pipeline, v_version.pipeline) end;
  v_version.node := case when 'node' = any (clear) then null else coalesce(change.node, v_version.node) end;
  v_version.kind := case when 'kind' = any (clear) then null else coalesce(change.kind, v_version.kind) end;
  v_version.mode := coalesce(change.mode, v_version.mode);
  v_version.on_fail := coalesce(change.on_fail, v_version.on_fail);
  v_version.on_error := coalesce(change.on_error, v_version.on_error);
  v_version.sample_rate := coalesce(change.sample_rate, v_version.sample_rate);
  v_version.model := case when 'model' = any (clear) then null else coalesce(change.model, v_version.model) end;
  v_version.few_shot_k := case when 'few_shot_k' = any (clear) then null else coalesce(change.few_shot_k, v_version.few_shot_k) end;
  v_version.description := case when 'description' = any (clear) then null else coalesce(change.description, v_version.description) end;
  v_version.review_every := case when 'review_every' = any (clear) then null else coalesce(change.review_every, v_version.review_every) end;
  perform flywheel._add_version(v_version, v_generation, v_enabled);

  return (flywheel._latest_version(v_version.validator_id)).version;
end
$$;

comment on function flywheel._alter_validator(text, flywheel._validator_versions, text[]) is
  'Makes a new version of a validator, of what is not null in a change.';
