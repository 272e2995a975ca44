-- The code of Python validators: who makes it, and that it is what a version shows.

-- The code of a Python validator is a function of the catalog, so that PostgreSQL itself decides who
-- may make one; the table's body is only shown. Where the language is missing, a plain function of
-- the schema's owner holds the text for a worker.
create or replace function flywheel._python_source(code_id integer, body text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select format('GD["flywheel_pl"][1].define(%s, %s)', code_id, to_json(body)::text);
$$;

comment on function flywheel._python_source(integer, text) is
  'The text of the function that holds a Python validator''s code.';

create or replace function flywheel._has_python()
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select exists (
    select from pg_proc as p where p.proname = '_run_python' and p.pronamespace = 'flywheel'::regnamespace
  );
$$;

comment on function flywheel._has_python() is 'Whether Python validators can run inside the database.';

-- Not SECURITY DEFINER, nor called by one: it is the caller who makes the function.
create or replace function flywheel._create_python_code(body text)
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_has_python constant boolean := flywheel._has_python();
  v_code_id integer;
begin
  if not (
    select r.rolsuper or not v_has_python and pg_has_role(current_user, n.nspowner, 'usage')
    from pg_roles as r, pg_namespace as n
    where r.rolname = current_user and n.nspname = 'flywheel'
  ) then
    raise exception 'only a superuser may create or change Python code, and % is none', quote_ident(current_user)
      using errcode = '42501',
        hint = 'Python validators run as the server''s operating-system user. Have a superuser create it, or use a built-in check or an SQL validator.';
  end if;
  v_code_id := nextval('flywheel._python_code_id_seq');
  if v_has_python then
    execute format(
      'create function flywheel._python_%s() returns void language plpython3u volatile as %L',
      v_code_id, flywheel._python_source(v_code_id, body)
    );
  else
    execute format(
      'create function flywheel._python_%s() returns text language sql immutable set search_path = pg_catalog, pg_temp set standard_conforming_strings = on as %L',
      v_code_id, format('select %L::text', body)
    );
  end if;
  execute format('revoke all on function flywheel._python_%s() from public', v_code_id);
  execute format('grant execute on function flywheel._python_%s() to flywheel_validator', v_code_id);
  execute format('comment on function flywheel._python_%s() is %L', v_code_id, 'Code of a Python validator.');
  return v_code_id;
end
$$;

comment on function flywheel._create_python_code(text) is
  'Makes the function that holds a Python validator''s code, with the rights of the caller; returns its number.';

-- That the code is what a superuser made, and what the version shows.
create or replace function flywheel._check_python_code(version flywheel._validator_versions)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if not exists (
    select
    from pg_proc as p
    join pg_language as l on l.oid = p.prolang
    join pg_roles as r on r.oid = p.proowner
    where p.proname = '_python_' || version.code_id and p.pronamespace = 'flywheel'::regnamespace
      and case
        when flywheel._has_python() then
          r.rolsuper and l.lanname = 'plpython3u'
          and p.prosrc = flywheel._python_source(version.code_id, version.body)
        else
          flywheel._is_trusted(p.proowner) and l.lanname = 'sql'
          and p.prosrc = format('select %L::text', version.body)
      end
  ) then
    raise exception 'this Python code was not made by a superuser here'
      using errcode = '42501',
        hint = 'Have a superuser give the body to flywheel.create_validator() or flywheel.alter_validator().';
  end if;
end
$$;

comment on function flywheel._check_python_code(flywheel._validator_versions) is
  'Refuses a version whose code is not a function that a superuser made of the very same body.';

create or replace function flywheel._drop_python_code(code_id integer)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if not exists (select from flywheel._validator_versions as v where v.code_id = _drop_python_code.code_id) then
    execute format('drop function if exists flywheel._python_%s()', code_id);
  end if;
end
$$;

comment on function flywheel._drop_python_code(integer) is 'Drops the code of Python validators that no version needs.';

-- What a version reads. Where Python is not at hand nothing can be told beforehand.
create or replace function flywheel._build_python_version(version flywheel._validator_versions)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_columns constant text[] := array(select c.name from flywheel._subject_columns(version.subject) as c);
  v_reads text[] := v_columns;
  v_problem text;
begin
  if version.builtin is not null then
    select array[coalesce(version.params ->> 'side', b.sides[1])]
      || case when b.reads_attributes then array['attributes'] else '{}' end
    into strict v_reads
    from flywheel._builtins() as b
    where b.name = version.builtin;
    if flywheel._has_python() then
      select flywheel._describe_builtin(b.module, version.params::text) into v_problem
      from flywheel._builtins() as b
      where b.name = version.builtin;
      if v_problem is not null then
        raise exception 'the params are refused: %', v_problem
          using errcode = 'LF001', detail = version.params,
            hint = format('select description, params from flywheel.builtin_validators where name = %L', version.builtin);
      end if;
    end if;
  else
    perform flywheel._check_python_code(version);
    if flywheel._has_python() then
      select d.reads, d.problem into v_reads, v_problem from flywheel._describe_python(version.body, v_columns) as d;
      if v_problem is not null then
        raise exception 'the body is refused: %', v_problem
          using errcode = 'LF001', detail = version.body,
            hint = format(
              'Give the body of a Python function of %s that returns True, False or None, (bool, reason), or a dict with the key passed.',
              array_to_string(v_columns, ', ')
            );
      end if;
    end if;
  end if;
  update flywheel._validator_versions as v
  set reads = v_reads
  where v.version_id = version.version_id;
end
$$;

comment on function flywheel._build_python_version(flywheel._validator_versions) is
  'Checks the code of a Python validator version and notes the columns it reads.';

-- Defaults of what a validator may use. A row may take a fifth of time_ms.
create or replace function flywheel._default_budget()
returns jsonb
language sql
immutable
parallel safe
begin atomic
  select '{"time_ms": 500, "memory_mb": 256, "max_chars": 1000000}'::jsonb;
end;

comment on function flywheel._default_budget() is
  'What a Python validator may use: milliseconds a batch, megabytes, characters of a text.';

create or replace function flywheel._check_budget(budget jsonb)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_key text;
  v_value jsonb;
begin
  if budget is null or jsonb_typeof(budget) <> 'object' then
    raise exception 'the budget is not a JSON object'
      using errcode = 'LF001', hint = 'For example: budget => ''{"time_ms": 200}''.';
  end if;
  for v_key, v_value in select e.key, e.value from jsonb_each(budget) as e loop
    if not flywheel._default_budget() ? v_key then
      raise exception 'the budget has the key %', quote_literal(v_key)
        using errcode = 'LF001', hint = 'The keys are time_ms, memory_mb and max_chars.';
    end if;
    if jsonb_typeof(v_value) <> 'number' or not v_value::numeric between 1 and 100000000 then
      raise exception 'the budget''s % is %', v_key, v_value
        using errcode = 'LF001', hint = 'Give a number from 1 to 100000000.';
    end if;
  end loop;
end
$$;

comment on function flywheel._check_budget(jsonb) is 'Refuses a budget with unknown keys or impossible values.';
