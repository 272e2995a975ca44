-- The definition of a judge: what create_validator('llm') and alter_validator() refuse and warn of.
--
--   create_validator('llm') --_parse_template()--> _validator_versions.template    (templates.sql)
--   claim --_judge_request(): row as jsonb, model--> {"body", "reading", "votes"}  (prompts.sql)

-- The options of a judge that stand in params, as create_validator() checks them.
create or replace function flywheel._check_judge(version flywheel._validator_versions)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_template constant jsonb := flywheel._parse_template(version.body, version.subject);
begin
  if version.model is null then
    raise exception 'a judge needs a model'
      using errcode = 'LF001', hint = 'Create one with flywheel.create_model() and give its name: model => ''judge''.';
  end if;
  perform flywheel._find_model(version.model);
  if version.score is not null or version.reason is not null then
    raise exception 'score and reason are SQL expressions, and the language is llm'
      using errcode = 'LF001', hint = 'A judge gives its reason by itself; for a score add params => ''{"threshold": 7}''.';
  end if;
  if version.few_shot_k > 20 then
    raise exception 'few_shot_k is %', version.few_shot_k using errcode = 'LF001', hint = 'Give at most 20 examples.';
  end if;
  perform flywheel._check_judge_params(version.params, v_template);
  if v_template is not null and not jsonb_path_exists(v_template, '$[*].path[0] ? (@ != "params")') then
    raise exception 'the template names nothing of the %', version.subject
      using errcode = 'LF001', detail = version.body, hint = 'Name what is to be judged, for example {{output}}.';
  end if;
end
$$;

comment on function flywheel._check_judge(flywheel._validator_versions) is
  'Refuses the options of a judge that make no sense, saying what to give instead.';

-- Whole numbers are compared as text: 3.0 and 1e1 would not be cast to integer later.
create or replace function flywheel._check_judge_params(params jsonb, template jsonb)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_known constant text[] := array[
    'votes', 'threshold', 'choices', 'system', 'temperature', 'max_tokens', 'max_attempts', 'max_chars',
    'half_life', 'disagreement_weight', 'diversity'
  ];
  v_key text;
  v_value jsonb;
begin
  for v_key, v_value in select e.key, e.value from jsonb_each(params) as e order by e.key collate "C" loop
    if (case
      when v_key = 'votes' then v_value::text !~ '^(1|3|5|7|9|11|13|15)$'
      when v_key in ('max_tokens', 'max_attempts', 'max_chars') and v_value::text !~ '^[1-9]\d{0,8}$' then true
      when v_key = 'max_tokens' then v_value::text::integer > 1000000
      when v_key = 'max_attempts' then v_value::text::integer > 1000
      when v_key = 'max_chars' then not v_value::text::integer between 100 and 10000000
      when v_key in ('threshold', 'temperature') and jsonb_typeof(v_value) <> 'number' then true
      when v_key = 'threshold' then abs(v_value::numeric) > 1000000000
      when v_key = 'temperature' then not v_value::numeric between 0 and 2
      when v_key = 'system' then jsonb_typeof(v_value) <> 'string'
      when v_key = 'choices' then not flywheel._are_choices(v_value)
      when v_key = 'half_life' then not coalesce(flywheel._interval_of(v_value #>> '{}') > interval '0', false)
      when v_key in ('disagreement_weight', 'diversity') and jsonb_typeof(v_value) <> 'number' then true
      when v_key = 'disagreement_weight' then not v_value::numeric between 0 and 100
      when v_key = 'diversity' then not v_value::numeric between 0 and 1
      else false
    end) then
      raise exception 'the judge''s % is %', v_key, left(v_value::text, 200)
        using errcode = 'LF001',
          hint = case v_key
            when 'votes' then 'Give an odd number from 1 to 15.'
            when 'threshold' then 'Give the lowest score that passes, for example 7.'
            when 'temperature' then 'Give a number from 0 to 2.'
            when 'system' then 'Give the system message as text; an empty one for none.'
            when 'choices' then 'Give two labels or more that differ by more than case and spaces, and whether each passes: {"A": true, "B": false}.'
            when 'max_tokens' then 'Give a whole number from 1 to 1000000.'
            when 'max_attempts' then 'Give a whole number from 1 to 1000.'
            when 'half_life' then 'Give the age at which an example counts half, for example "90 days".'
            when 'disagreement_weight' then 'Give a number from 0 to 100.'
            when 'diversity' then 'Give a number from 0 to 1.'
            else 'Give a whole number from 100 to 10000000: what is longer is shown to the judge by its beginning and end.'
          end;
    end if;
    if not v_key = any (v_known)
      and not exists (
        select from jsonb_array_elements(template) as p
        where p -> 'path' ->> 0 = 'params' and coalesce(p -> 'path' ->> 1, v_key) = v_key
      ) then
      raise exception 'the judge has the param %', quote_literal(v_key)
        using errcode = 'LF001',
          hint = format(
            'There are %s; a template may have others and name them: {{params.tone}}.', array_to_string(v_known, ', ')
          );
    end if;
  end loop;
  if params ? 'threshold' and params ? 'choices' then
    raise exception 'a judge gives a score or chooses a label, not both'
      using errcode = 'LF001', hint = 'Leave threshold or choices out.';
  end if;
  select p ->> 'name' into v_key
  from jsonb_array_elements(template) as p
  where p -> 'path' ->> 0 = 'params'
    and jsonb_build_object('params', params) #>> array(select jsonb_array_elements_text(p -> 'path')) is null
  limit 1;
  if found then
    raise exception 'the template names {{%}}, which params does not have', left(v_key, 60)
      using errcode = 'LF001', hint = 'Give it, for example: params => ''{"tone": "warm"}''.';
  end if;
end
$$;

comment on function flywheel._check_judge_params(jsonb, jsonb) is
  'Refuses params of a judge that make no sense, or that nothing reads.';

-- As the reader of replies tells labels apart.
create or replace function flywheel._are_choices(choices jsonb)
returns boolean
language sql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select case when jsonb_typeof(choices) = 'object' then (
    select count(*) > 1 and bool_and(jsonb_typeof(c.value) = 'boolean' and k.label <> '')
      and count(distinct case when length(k.label) > 1 then lower(regexp_replace(k.label, '\s+', ' ', 'g')) else k.label end) = count(*)
    from jsonb_each(choices) as c,
      lateral (select btrim(c.key, E' \t\r\n.,;:!"''[]*_`') as label) as k
  ) else false end;
$$;

comment on function flywheel._are_choices(jsonb) is
  'Whether this is an object of at least two labels that can be told apart, each true or false.';

-- What a judge reads, the parts of its template, and notices of what is likely not meant.
create or replace function flywheel._build_judge_version(version flywheel._validator_versions)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_template constant jsonb := flywheel._parse_template(version.body, version.subject);
  v_temperature jsonb;
  v_lack record;
begin
  update flywheel._validator_versions as v
  set template = v_template,
    reads = case when v_template is null then array['input', 'output'] else array(
      select c.name
      from flywheel._subject_columns(version.subject) with ordinality as c (name, type, position)
      where exists (select from jsonb_array_elements(v_template) as p where p -> 'path' ->> 0 = c.name)
      order by c.position
    ) end
  where v.version_id = version.version_id;

  if v_template @> '[{"examples": true}]' and coalesce(version.few_shot_k, 0) = 0 then
    raise notice 'the template names {{examples}}, and few_shot_k is not set'
      using hint = 'Nothing stands there until it is: few_shot_k => 6.';
  end if;
  v_temperature := coalesce(version.params -> 'temperature', (flywheel._find_model(version.model)).parameters -> 'temperature');
  if (version.params ->> 'votes')::integer > 1 and v_temperature = '0' then
    raise notice 'the judge votes % times, and its temperature is 0: the votes will be alike', version.params ->> 'votes'
      using hint = 'Add a temperature to its params, for example 0.7.';
  end if;

  for v_lack in select l.* from flywheel._lacking_paths(version, v_template) as l loop
    raise notice '% of the latest % rows have no %', v_lack.lacking, v_lack.rows, v_lack.name
      using hint = 'The judge skips a row that lacks what its template names.';
  end loop;
end
$$;

comment on function flywheel._build_judge_version(flywheel._validator_versions) is
  'Reads the template of a judge and compares its paths with recent rows.';

create or replace function flywheel._lacking_paths(version flywheel._validator_versions, template jsonb)
returns table (name text, rows bigint, lacking bigint)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  return query execute format(
    $query$
    select p.part ->> 'name' as name, count(*) as rows, count(*) filter (where g.given #>> p.path is null) as lacking
    from (%s) as k,
      lateral (select to_jsonb(k) as given offset 0) as g,
      lateral (
        select t.part, array(select jsonb_array_elements_text(t.part -> 'path')) as path
        from jsonb_array_elements($1) as t (part)
        where t.part -> 'path' ->> 0 <> 'params'
      ) as p
    group by 1
    having count(*) filter (where g.given #>> p.path is null) > 0
    order by 1$query$,
    flywheel._recent_rows(version, 100, 10000)
  ) using template;
end
$$;

comment on function flywheel._lacking_paths(flywheel._validator_versions, jsonb) is
  'Which paths of a template are null in how many of the latest rows it applies to.';

-- The filter may match none of very many rows, so only the latest are searched where that will do.
create or replace function flywheel._recent_rows(version flywheel._validator_versions, n integer, of_latest integer)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select flywheel._subject_rows(
    version.subject,
    format(
      '(select n.* from %s as n where %s order by n.received_at desc limit %s)',
      format(
        case version.subject
          when 'trace' then '(select * from flywheel.traces%s)'
          else '(select s.*, t.pipeline from (select * from flywheel.spans%s) as s left join flywheel.traces as t on t.trace_id = s.trace_id)'
        end,
        ' order by received_at desc limit ' || of_latest
      ),
      array_to_string(array['true'] || flywheel._version_filters(version, 'n', 'try'), ' and '),
      n
    ),
    'true'
  );
$$;

comment on function flywheel._recent_rows(flywheel._validator_versions, integer, integer) is
  'A query giving the latest n rows a version applies to, found among the latest so many (null: all), in the shape of _subject_rows().';

create or replace function flywheel._interval_of(given text)
returns interval
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  return given::interval;
exception when data_exception then
  return null;
end
$$;

comment on function flywheel._interval_of(text) is 'An interval in words; null if it is none.';
