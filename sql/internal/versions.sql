-- The catalog objects of one validator version:
--   _check_<id>  the body as a boolean function
--   _score_<id>  the score expression, if any
--   _reason_<id> the reason expression, if any
--   _try_<id>    all of them behind an exception block, unless the check is total and alone
--
-- The block in _try_<id> writes nothing, so its subtransaction gets no transaction id: however many
-- rows a transaction inserts, the server's subtransaction log is never touched, and an expression
-- that raises costs one verdict and not the statement. A call takes about a microsecond.

create or replace function flywheel._build_version(version_id integer)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_version flywheel._validator_versions;
  v_body_reads text[];
  v_score_reads text[];
  v_reason_reads text[];
  v_reads text[];
  v_is_total boolean;
begin
  select * into strict v_version
  from flywheel._validator_versions as v
  where v.version_id = _build_version.version_id;

  perform flywheel._drop_version_functions(version_id);
  if v_version.language = 'python' then
    perform flywheel._build_python_version(v_version);
    return;
  elsif v_version.language = 'llm' then
    perform flywheel._build_judge_version(v_version);
    return;
  elsif v_version.language = 'knn' then
    perform flywheel._build_knn_version(v_version);
    return;
  end if;

  select e.reads, e.is_total into v_body_reads, v_is_total from flywheel._create_expression(
    format('_check_%s', version_id), 'body', v_version.body, 'boolean', v_version.subject, v_version.params
  ) as e;

  if v_version.score is not null then
    select e.reads into v_score_reads from flywheel._create_expression(
      format('_score_%s', version_id), 'score', v_version.score, 'double precision', v_version.subject, v_version.params
    ) as e;
  end if;
  if v_version.reason is not null then
    select e.reads into v_reason_reads from flywheel._create_expression(
      format('_reason_%s', version_id), 'reason', v_version.reason, 'text', v_version.subject, v_version.params
    ) as e;
  end if;

  v_reads := array(
    select c.name
    from flywheel._subject_columns(v_version.subject) with ordinality as c (name, type, position)
    where c.name = any (v_body_reads || v_score_reads || v_reason_reads)
    order by c.position
  );
  if v_reads = '{}' then
    raise notice 'the validator reads no column of the row'
      using hint = 'Inside a subquery a name means the subquery''s own column first. Give the row''s another name: (select user_id) as me (id).';
  end if;
  update flywheel._validator_versions as v
  set reads = v_reads,
    is_total = v_is_total and v_version.score is null and v_version.reason is null
  where v.version_id = _build_version.version_id
  returning * into v_version;

  perform flywheel._build_try(version_id);
end
$$;

comment on function flywheel._build_version(integer) is
  'Checks the expressions of a validator version and makes the functions the compiled statements call.';

create or replace function flywheel._build_try(version_id integer)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_version flywheel._validator_versions;
  v_score text;
  v_reason text;
begin
  select * into strict v_version
  from flywheel._validator_versions as v
  where v.version_id = _build_try.version_id;
  if v_version.is_total then
    return;
  end if;

  if v_version.score is not null then
    v_score := format('v_outcome.score := %s;', flywheel._call_of(format('_score_%s', version_id)));
  end if;
  if v_version.reason is not null then
    v_reason := format('v_outcome.reason := %s;', flywheel._call_of(format('_reason_%s', version_id)));
  end if;
  -- A built-in check tells what is wrong, and has nothing to say when nothing is.
  if v_version.builtin is not null then
    v_score := format('if not v_passed then %s', coalesce(v_score, 'null;'));
    v_reason := coalesce(v_reason, '') || ' end if;';
  end if;
  execute format(
    $function$
      create or replace function flywheel._try_%1$s(%2$s)
      returns flywheel._outcome
      language plpgsql
      stable
      as $body$
      #variable_conflict use_variable
      declare
        v_outcome flywheel._outcome;
        v_passed boolean;
      begin
        v_passed := %3$s;
        v_outcome.code := case when v_passed then 1 when not v_passed then 0 else 2 end;
        %4$s
        %5$s
        return v_outcome;
      exception when others or assert_failure then
        return row (
          3::pg_catalog.int2, null::pg_catalog.float8, null::pg_catalog.text, pg_catalog.left(sqlerrm, 1000)
        )::flywheel._outcome;
      end
      $body$
    $function$,
    version_id,
    (
      select string_agg(format('%I %s', c.name, c.type), ', ')
      from flywheel._subject_columns(v_version.subject) as c
      where c.name = any (v_version.reads)
    ),
    flywheel._call_of(format('_check_%s', version_id)),
    v_score,
    v_reason
  );
  execute format('revoke all on function flywheel._try_%s from public', version_id);
  execute format('grant execute on function flywheel._try_%s to flywheel_validator', version_id);
end
$$;

comment on function flywheel._build_try(integer) is
  'Writes the function that runs a check, its score and its reason behind an exception block, unless the check needs none.';

-- "flywheel._check_7(output, params)", its arguments by their names.
create or replace function flywheel._call_of(function_name text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select format(
    'flywheel.%I(%s)',
    p.proname,
    (select string_agg(quote_ident(a.name), ', ' order by a.position) from unnest(p.proargnames) with ordinality as a (name, position))
  )
  from pg_proc as p
  where p.proname = function_name and p.pronamespace = 'flywheel'::regnamespace;
$$;

comment on function flywheel._call_of(text) is 'Call of a validator''s function, its arguments by name.';

create or replace function flywheel._drop_version_functions(version_id integer)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_function text;
begin
  for v_function in
    select p.oid::regprocedure::text
    from pg_proc as p
    where p.pronamespace = 'flywheel'::regnamespace
      and p.proname = any (array[
        '_try_' || version_id, '_check_' || version_id, '_score_' || version_id, '_reason_' || version_id
      ])
  loop
    execute 'drop function ' || v_function;
  end loop;
end
$$;

comment on function flywheel._drop_version_functions(integer) is 'Drops the functions of a validator version.';
