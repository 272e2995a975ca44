-- A judge's text: a criterion in plain words, or a template with {{placeholders}}.
--
--   {{output}}  {{attributes.customer.tier}}  {{attributes.items.0.name}}  {{attributes."gen_ai.system"}}
--   {{params.tone}}  {{examples}}             \{{name}} is no placeholder: the judge reads {{name}}
--
-- It is parsed once, when the validator is made. What is filled in is never parsed, so it cannot
-- name anything.

-- "Is {{output}} kind?" becomes
-- [{"text": "Is "}, {"path": ["output"], "name": "output", "tag": "output"}, {"text": " kind?"}].
create or replace function flywheel._parse_template(body text, subject text)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  -- JSON opens with a quote or a space and a quote, and is text. What opens with a letter is meant to be
  -- filled in, as is what other template languages know: {{#if}}.
  v_opening constant text := '(?<!\\)\{\{\s*(?:[A-Za-z_#/^>&!]|[^\u0001-\u007f])';
  v_placeholder constant text := v_opening || '(?:"[^"{}\n]*"|[^{}"])*\}\}';
  v_parts jsonb := jsonb_build_array();
  v_from integer := 1;
  v_at integer;
  v_found text;
  v_text text;
begin
  loop
    v_at := regexp_instr(body, v_placeholder, v_from);
    v_text := case when v_at = 0 then substr(body, v_from) else substr(body, v_from, v_at - v_from) end;
    if v_text ~ v_opening then
      raise exception 'the template opens {{ and does not close it: %', left(substring(v_text from v_opening || '.*'), 60)
        using errcode = 'LF001', detail = body, hint = 'Write }} behind the name, or \{{ for braces that are meant as they stand.';
    end if;
    if v_text <> '' then
      v_parts := v_parts || jsonb_build_object('text', replace(v_text, '\{{', '{{'));
    end if;
    exit when v_at = 0;
    v_found := regexp_substr(body, v_placeholder, v_from);
    v_parts := v_parts || flywheel._parse_placeholder(btrim(v_found, E'{} \t\r\n'), subject, body);
    v_from := v_at + length(v_found);
  end loop;
  if not jsonb_path_exists(v_parts, '$[*] ? (!exists (@.text))') then
    return null;
  end if;
  return v_parts;
end
$$;

comment on function flywheel._parse_template(text, text) is
  'The parts of a judge''s template, texts and paths; null for a text without {{...}}, which is a criterion.';

-- Keys are separated by dots; one that has a dot itself stands in double quotes.
create or replace function flywheel._parse_placeholder(name text, subject text, body text)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_columns constant text[] := array(select c.name from flywheel._subject_columns(subject) as c);
  v_path text[];
  v_is_clear boolean;
begin
  if name = 'examples' then
    return '{"examples": true}'::jsonb;
  end if;
  -- A dot with an even number of quotes behind it stands in none.
  select
    array_agg(
      case when k.key ~ '^".*"$' then replace(substr(k.key, 2, length(k.key) - 2), '""', '"') else k.key end
      order by k.position
    ),
    bool_and(k.key ~ '^"(?:[^"]|"")*"$' or k.key ~ '^[^"]+$')
  into v_path, v_is_clear
  from (
    select btrim(s.key, E' \t\r\n') as key, s.position
    from regexp_split_to_table(name, '\.(?=(?:[^"]*"[^"]*")*[^"]*$)') with ordinality as s (key, position)
  ) as k;
  if not v_is_clear or not v_path[1] = any (v_columns) then
    raise exception 'the template names {{%}}, which a % does not have', left(name, 60), subject
      using errcode = 'LF001', detail = body,
        hint = format(
          'There are: %s, examples; inside attributes and params write {{attributes.customer.tier}}, and \{{ for braces that are meant as they stand.',
          array_to_string(v_columns, ', ')
        );
  end if;
  if cardinality(v_path) > 1 and not v_path[1] in ('attributes', 'params') then
    raise exception 'the template names {{%}}, and % is no object', left(name, 60), v_path[1]
      using errcode = 'LF001', detail = body, hint = format('Write {{%s}}.', v_path[1]);
  end if;
  return jsonb_build_object(
    'path', to_jsonb(v_path),
    'name', name,
    'tag', (
      select left(string_agg(
        regexp_replace(k.key, '[\u0001-\u002f\u003a-\u0040\u005b-\u005e\u0060\u007b-\u007f]', '_', 'g'), '.' order by k.position
      ), 60)
      from unnest(v_path) with ordinality as k (key, position)
    )
  );
end
$$;

comment on function flywheel._parse_placeholder(text, text, text) is
  'What {{name}} in a template stands for: a path into the row, and the tag that its value gets.';
