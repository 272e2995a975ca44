-- The built-in checks. One in SQL is a template that its params are written into, so that what runs
-- is an expression like any other, with constant patterns; one in Python is a module of
-- flywheel_pl.checks. Either way the text is the release's: an admin gives params, never code.

create or replace function flywheel._builtins()
returns table (
  name text, language text, module text, sides text[], reads_attributes boolean, cost text, params jsonb,
  description text
)
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select b.name, b.language, b.module, b.sides::text[], b.module = 'prompt_leak', b.cost, b.params::jsonb, b.description
  from (values
    ('not_blank', 'sql', null, '{output,input}', 'low',
      '{}',
      'The text has a character that is not white space.'),
    ('max_length', 'sql', null, '{output,input}', 'low',
      '{"max": 2000, "unit": "characters"}',
      'The text is at most max units long. unit is characters, words, or tokens (estimated: a token for every four bytes).'),
    ('min_length', 'sql', null, '{output,input}', 'low',
      '{"min": 1, "unit": "characters"}',
      'The text is at least min units long. unit is characters, words, or tokens (estimated: a token for every four bytes).'),
    ('no_gpt_smell', 'sql', null, '{output}', 'medium',
      '{"words": null}',
      'None of the words and phrases that language models overuse. words replaces the list.'),
    ('no_refusal', 'sql', null, '{output}', 'medium',
      '{}',
      'The answer does not refuse, in full or in part.'),
    ('valid_json', 'sql', null, '{output}', 'medium',
      '{"allow_fences": true}',
      'The text is JSON. allow_fences also accepts it inside a Markdown code block.'),
    ('contains', 'sql', null, '{output,input}', 'low',
      '{"texts": [], "match": "all", "ignore_case": true}',
      'The text contains each of texts, or with match any at least one.'),
    ('not_contains', 'sql', null, '{output,input}', 'low',
      '{"texts": [], "ignore_case": true}',
      'The text contains none of texts.'),
    ('matches', 'sql', null, '{output,input}', 'medium',
      '{"pattern": null, "ignore_case": false}',
      'The text matches the regular expression pattern (of PostgreSQL, without backreferences).'),
    ('json_schema', 'python', 'json_schema', '{output}', 'medium',
      '{"schema": {}, "allow_fences": true}',
      'The text is JSON that satisfies the JSON Schema schema (drafts 4 to 7).'),
    ('no_repetition', 'python', 'repetition', '{output}', 'medium',
      '{"max_share": 0.5, "ngram": 4, "min_tokens": 40, "max_same_line": 6, "max_token_run": 12, "max_character_run": 60}',
      'The text does not repeat itself: lines, sentences, runs of words or characters.'),
    ('no_sensitive_information', 'python', 'sensitive_information', '{output,input}', 'medium',
      '{"kinds": ["secret", "email", "iban", "credit_card", "us_ssn", "ip_address", "phone"], "allow": []}',
      'No card, IBAN, social security or phone number, e-mail or IP address, key or token. kinds picks some, allow names texts that may occur.'),
    ('no_prompt_leak', 'python', 'prompt_leak', '{output}', 'medium',
      '{"prompt_path": "system_prompt", "min_words": 12}',
      'The answer neither repeats the system prompt, which it finds in attributes under prompt_path, nor talks about its instructions as a leak does.'),
    ('language', 'python', 'language', '{output,input}', 'medium',
      '{"allowed": ["en"], "min_confidence": 0.0, "min_characters": 20, "detector": "builtin", "accuracy": "low"}',
      'The text is in one of the languages allowed (ISO 639-1). The verdict''s predicted_label is the language found. detector lingua is right more often and costs fifty times as much.'),
    ('readability', 'python', 'readability', '{output}', 'medium',
      '{"max_grade": 12, "min_grade": null, "min_ease": null}',
      'The Flesch-Kincaid grade and reading ease of an English text are within limits. The score is the grade.'),
    ('authenticated_entities', 'sql', null, '{input,output}', 'medium',
      '{"pattern": null, "query": null}',
      'Whatever pattern finds in the text (its first group) is among what query returns for the row''s user_id, which query calls :user_id.'),
    ('topic_keywords', 'sql', null, '{input}', 'medium',
      '{"any": [], "none": []}',
      'At least one of the words any (if there are some) and none of the words none occur.'),
    ('complexity', 'python', 'complexity', '{input,output}', 'medium',
      '{"min_tokens": null, "max_tokens": 4000, "max_sentences": null, "max_nesting": null}',
      'Tokens, sentences and nesting of the text are within limits.'),
    ('no_attack', 'sql', null, '{input}', 'high',
      '{"max_attempts": 3, "window": "1 hour"}',
      'The input shows no known pattern of a jailbreak or an injection, and its user has not made max_attempts attacks within the window before it.')
  ) as b (name, language, module, sides, cost, params, description);
$$;

comment on function flywheel._builtins() is 'The built-in checks of this release, with the defaults of their params.';

create or replace function flywheel._find_builtin(name text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if name is null or not exists (select from flywheel._builtins() as b where b.name = _find_builtin.name) then
    raise exception 'there is no built-in check %', coalesce(quote_literal(name), 'null')
      using errcode = 'LF003',
        hint = 'There are: ' || (select string_agg(b.name, ', ' order by b.name) from flywheel._builtins() as b);
  end if;
  return name;
end
$$;

comment on function flywheel._find_builtin(text) is 'The name of a built-in check; LF003 if there is none.';

-- The params of a built-in check: known ones of the right type, the defaults for the rest.
create or replace function flywheel._builtin_params(builtin text, params jsonb)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_builtin record;
  v_defaults jsonb;
  v_key text;
  v_value jsonb;
begin
  select b.sides, b.params into strict v_builtin from flywheel._builtins() as b where b.name = builtin;
  v_defaults := v_builtin.params || jsonb_build_object('side', v_builtin.sides[1]);
  if params is null or jsonb_typeof(params) <> 'object' then
    raise exception 'params is not a JSON object' using errcode = 'LF001', hint = 'For example: params => ''{"max": 2000}''.';
  end if;
  for v_key, v_value in select e.key, e.value from jsonb_each(params) as e loop
    if not v_defaults ? v_key then
      raise exception 'the built-in check % has no param %', builtin, quote_literal(v_key)
        using errcode = 'LF001',
          hint = 'It has: ' || (select string_agg(k, ', ' order by k) from jsonb_object_keys(v_defaults) as k) || '.';
    end if;
    if jsonb_typeof(v_defaults -> v_key) <> 'null' and jsonb_typeof(v_value) <> jsonb_typeof(v_defaults -> v_key) then
      raise exception 'the param % of the built-in check % is %', v_key, builtin, v_value
        using errcode = 'LF001', hint = format('The default is %s: give a value of that type.', v_defaults -> v_key);
    end if;
  end loop;
  if params ? 'side' and not params ->> 'side' = any (v_builtin.sides) then
    raise exception 'the built-in check % cannot look at the side %', builtin, params -> 'side'
      using errcode = 'LF001', hint = 'It can look at: ' || array_to_string(v_builtin.sides, ', ') || '.';
  end if;
  return v_defaults || params;
end
$$;

comment on function flywheel._builtin_params(text, jsonb) is
  'The params of a built-in check with its defaults filled in; LF001 for an unknown one or one of another type.';

-- How long a text is, in a unit.
create or replace function flywheel._length_expression(side text, unit text)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  return case unit
    when 'characters' then format('length(%I)', side)
    when 'words' then format($e$regexp_count(%I, '\S+')$e$, side)
    when 'tokens' then format('(octet_length(%I) + 3) / 4', side)
  end;
end
$$;

comment on function flywheel._length_expression(text, text) is 'An SQL expression of a text''s length; null for an unknown unit.';

create or replace function flywheel._text_list(builtin text, param text, texts jsonb)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if jsonb_typeof(texts) <> 'array' or exists (
    select from jsonb_array_elements(texts) as t (value) where jsonb_typeof(t.value) <> 'string' or t.value #>> '{}' = ''
  ) then
    raise exception 'the param % of the built-in check % is not a list of texts: %', param, builtin, texts
      using errcode = 'LF001', hint = 'For example: ["refund", "invoice"].';
  end if;
  return array(select jsonb_array_elements_text(texts));
end
$$;

comment on function flywheel._text_list(text, text, jsonb) is 'A param that is a list of texts; LF001 if it is none.';

-- Writes the params of a built-in check into its template.
create or replace function flywheel._render_builtin(version flywheel._validator_versions)
returns flywheel._validator_versions
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_builtin record;
  v_params constant jsonb := flywheel._builtin_params(flywheel._find_builtin(version.builtin), version.params);
  v_side constant text := v_params ->> 'side';
  v_length constant text := flywheel._length_expression(v_side, v_params ->> 'unit');
  v_bound text;
  v_pattern text;
  v_texts text[];
begin
  select b.language, b.module, b.description into strict v_builtin
  from flywheel._builtins() as b
  where b.name = version.builtin;
  version.language := v_builtin.language;
  version.params := v_params;
  version.code_id := null;
  version.score := null;
  version.reason := null;
  version.description := coalesce(version.description, v_builtin.description);

  -- A library that takes milliseconds a text needs more than the default.
  if v_params ->> 'detector' = 'lingua' then
    version.budget := '{"time_ms": 10000, "memory_mb": 2000}' || coalesce(version.budget, '{}');
  end if;
  if v_params ? 'unit' and v_length is null then
    raise exception 'the unit % is unknown', v_params -> 'unit'
      using errcode = 'LF001', hint = 'Use "characters", "words" or "tokens".';
  end if;
  v_bound := coalesce(v_params ->> 'max', v_params ->> 'min');
  if v_bound::numeric not between 0 and 1e9 then
    raise exception 'the length % is out of range', v_bound using errcode = 'LF001', hint = 'Give a number from 0 to 1000000000.';
  end if;

  case version.builtin
    when 'not_blank' then
      version.body := format($e$%I ~ '\S'$e$, v_side);
    when 'max_length', 'min_length' then
      version.body := format('%s %s %s', v_length, case version.builtin when 'max_length' then '<=' else '>=' end, v_bound);
      version.reason := format(
        '%s || %L', v_length,
        format(' %s, at %s %s', v_params ->> 'unit', case version.builtin when 'max_length' then 'most' else 'least' end, v_bound)
      );
    when 'no_gpt_smell' then
      v_pattern := flywheel._any_word_pattern(to_jsonb(flywheel._text_list(
        version.builtin, 'words', coalesce(nullif(v_params -> 'words', 'null'), flywheel._gpt_smell_words())
      )));
      version.body := format('%I !~* %L', v_side, v_pattern);
      version.reason := format($e$'says ' || quote_literal((regexp_match(%I, %L, 'i'))[1])$e$, v_side, v_pattern);
    when 'no_refusal' then
      version.body := format('%I !~* %L', v_side, flywheel._refusal_pattern());
      version.reason := format(
        $e$'refuses: ' || quote_literal((regexp_match(%I, %L, 'i'))[1])$e$, v_side, flywheel._refusal_pattern()
      );
    when 'valid_json' then
      version.body := format('case when %I is not null then flywheel._json_problem(%1$I, %2$s) is null end', v_side, v_params ->> 'allow_fences');
      version.reason := format('flywheel._json_problem(%I, %s)', v_side, v_params ->> 'allow_fences');
    when 'contains', 'not_contains' then
      v_texts := flywheel._text_list(version.builtin, 'texts', v_params -> 'texts');
      if v_texts = '{}' then
        raise exception 'the built-in check % needs texts', version.builtin
          using errcode = 'LF001', hint = 'For example: params => ''{"texts": ["refund"]}''.';
      end if;
      if not coalesce(v_params ->> 'match', 'all') in ('all', 'any') then
        raise exception 'match is %', v_params -> 'match' using errcode = 'LF001', hint = 'Use "all" or "any".';
      end if;
      version.body := (
        select string_agg(
          format(
            case when (v_params ->> 'ignore_case')::boolean then 'strpos(lower(%I), lower(%L)) %s 0' else 'strpos(%I, %L) %s 0' end,
            v_side, t, case version.builtin when 'contains' then '>' else '=' end
          ),
          case when v_params ->> 'match' = 'any' then ' or ' else ' and ' end
        )
        from unnest(v_texts) as t
      );
    when 'matches' then
      version.body := format(
        '%I %s %L', v_side, case when (v_params ->> 'ignore_case')::boolean then '~*' else '~' end,
        flywheel._required_text(version.builtin, 'pattern', v_params)
      );
    when 'authenticated_entities' then
      -- The query sees the row's user only; what it returns is compared as text.
      v_bound := replace(flywheel._required_text(version.builtin, 'query', v_params), ':user_id', 'me.user_id');
      if v_bound not like '%me.user\_id%' then
        raise exception 'the query does not mention :user_id'
          using errcode = 'LF001',
            hint = 'For example: select o.order_id from shop.orders as o where o.customer_id = :user_id';
      end if;
      v_bound := format(
        $e$from (select user_id) as me (user_id), regexp_matches(%I, %L, 'g') as found (groups) where not exists (select from (%s) as mine (entity) where mine.entity::text = found.groups[1])$e$,
        v_side, flywheel._required_text(version.builtin, 'pattern', v_params), v_bound || E'\n'
      );
      version.body := format('case when %I is not null then not exists (select %s) end', v_side, v_bound);
      version.reason := format($e$(select 'not the user''s: ' || string_agg(found.groups[1], ', ') %s)$e$, v_bound);
    when 'topic_keywords' then
      v_texts := flywheel._text_list(version.builtin, 'any', v_params -> 'any');
      version.body := concat_ws(
        ' and ',
        case when v_texts <> '{}' then format('%I ~* %L', v_side, flywheel._any_word_pattern(to_jsonb(v_texts))) end,
        case when flywheel._text_list(version.builtin, 'none', v_params -> 'none') <> '{}' then
          format('%I !~* %L', v_side, flywheel._any_word_pattern(v_params -> 'none'))
        end
      );
      if version.body = '' then
        raise exception 'topic_keywords needs words in any or none'
          using errcode = 'LF001', hint = 'For example: params => ''{"any": ["order", "refund"]}''.';
      end if;
    when 'no_attack' then
      begin
        v_bound := (v_params ->> 'max_attempts')::integer;
        if v_bound::integer < 1 or (v_params ->> 'window')::interval <= interval '0' then
          raise exception 'they must be positive';
        end if;
      exception when others then
        raise exception 'max_attempts is % and window is %: %', v_params -> 'max_attempts', v_params -> 'window', sqlerrm
          using errcode = 'LF001', hint = 'Give a whole number from 1 on, and a duration such as "1 hour".';
      end;
      version.score := format('flywheel._attack_score(%I)', v_side);
      version.body := format(
        'flywheel._attack_score(%1$I) < 2 and (user_id is null or (%2$s) < %3$s)',
        v_side,
        flywheel._attempts_expression(version.validator_id, v_params ->> 'window'),
        v_bound
      );
      version.reason := format(
        $e$case when flywheel._attack_score(%I) < 2 then %L else 'known pattern of an attack' end$e$,
        v_side, format('%s attacks by this user within %s', v_params ->> 'max_attempts', v_params ->> 'window')
      );
    else
      version.body := 'flywheel_pl.checks.' || v_builtin.module;
  end case;
  return version;
end
$$;

comment on function flywheel._render_builtin(flywheel._validator_versions) is
  'Completes a version made from a built-in check: language, body, score, reason and params.';

create or replace function flywheel._required_text(builtin text, param text, params jsonb)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if coalesce(params ->> param, '') = '' or jsonb_typeof(params -> param) <> 'string' then
    raise exception 'the built-in check % needs the param %', builtin, param
      using errcode = 'LF001',
        hint = format('select description from flywheel.builtin_validators where name = %L', builtin);
  end if;
  if param = 'pattern' then
    -- A mistake in it is told now, not once for each row.
    perform regexp_match('', params ->> param);
  end if;
  return params ->> param;
exception when invalid_regular_expression then
  raise exception 'the param pattern of the built-in check % is refused: %', builtin, sqlerrm
    using errcode = 'LF001', hint = 'Give a regular expression as PostgreSQL reads it.';
end
$$;

comment on function flywheel._required_text(text, text, jsonb) is 'A param that must be a text; LF001 if it is missing.';

-- A user's attacks before this row: what this validator found on earlier rows, those blocked at the
-- gate included. A verdict that only repeats that there were attacks has a lower score and is none.
create or replace function flywheel._attempts_expression(validator_id integer, duration text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select format(
    $e$select count(*) from (select trace_id, user_id, started_at) as me (trace_id, user_id, started_at)
      join flywheel.traces as t
        on t.user_id = me.user_id and t.started_at <= me.started_at and t.started_at > me.started_at - %L::interval
        and t.trace_id <> me.trace_id
      join flywheel._verdicts as v on v.trace_id = t.trace_id and v.status = 'failed' and v.score >= 2
      join flywheel._validator_versions as r on r.version_id = v.version_id and r.validator_id = %s$e$,
    duration::interval, validator_id
  );
$$;

comment on function flywheel._attempts_expression(integer, text) is
  'An SQL expression that counts the attacks a validator has found on a user''s earlier traces.';

-- PostgreSQL 15 has no IS JSON.
create or replace function flywheel._json_problem(content text, allow_fences boolean)
returns text
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_content text := content;
begin
  if allow_fences and content ~ '^\s*```' then
    v_content := coalesce(substring(content from '^\s*```[a-zA-Z]*\s*\n(.*)\n\s*```\s*$'), content);
  end if;
  perform v_content::json;
  return null;
exception when others then
  return 'not JSON: ' || left(sqlerrm, 300);
end
$$;

comment on function flywheel._json_problem(text, boolean) is
  'What keeps a text from being JSON; null if nothing does, or the text is null.';
