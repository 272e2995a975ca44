-- Nearest-neighbour validators: the body names a rule, and params say the rest.
--
--   topic           passes what is like its reference texts           similarity >= threshold
--   anomaly         passes what is like recent inputs of the pipeline similarity >= threshold
--   nearest_attack  passes what is not like its reference texts       similarity < threshold
--
-- The similarity is the cosine of the vectors of the embedder hash, so that a verdict needs no network;
-- of the nearest text, or the mean of the k nearest.

create or replace function flywheel._knn_default_params(rule text)
returns jsonb
language sql
immutable
parallel safe
begin atomic
  select case rule
    when 'anomaly' then '{"text": "input", "k": 1, "window": "7 days"}'::jsonb
    else '{"text": "input", "k": 1}'::jsonb
  end;
end;

comment on function flywheel._knn_default_params(text) is
  'The params of a nearest-neighbour rule where none are given. A threshold has no default.';

create or replace function flywheel._check_knn(version flywheel._validator_versions)
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
  if version.body not in ('topic', 'anomaly', 'nearest_attack') then
    raise exception 'the rule % is unknown', quote_literal(version.body)
      using errcode = 'LF001', hint = 'The body of a knn validator is ''topic'', ''anomaly'' or ''nearest_attack''.';
  end if;
  if exists (
    select from flywheel._validator_versions as v
    where v.validator_id = version.validator_id and v.language = 'knn' and v.body <> version.body
  ) then
    raise exception 'the validator has another rule, and its reference texts were given for that'
      using errcode = 'LF001', hint = 'Create another validator for the rule ' || quote_literal(version.body) || '.';
  end if;
  if num_nonnulls(version.score, version.reason, version.model, version.few_shot_k) > 0 then
    raise exception 'score, reason, model and few_shot_k are not for the language knn'
      using errcode = 'LF001', hint = 'Leave them out: the score is the similarity, and the reason names what is nearest.';
  end if;
  if version.body = 'anomaly' and version.subject <> 'trace' then
    raise exception 'the rule ''anomaly'' compares the inputs of traces, and the subject is %', quote_literal(version.subject)
      using errcode = 'LF001', hint = 'Leave subject out, or use the rule ''topic'' with reference texts.';
  end if;
  for v_key, v_value in select p.key, p.value from jsonb_each(version.params) as p loop
    if not v_key = any (array['threshold', 'k', 'text']) and not (version.body = 'anomaly' and v_key = 'window') then
      raise exception 'the rule % has no param %', quote_literal(version.body), quote_literal(v_key)
        using errcode = 'LF001',
          hint = 'The params are threshold, k and text' || case version.body when 'anomaly' then ', and window.' else '.' end;
    elsif v_key = 'threshold' and not coalesce(jsonb_typeof(v_value) = 'number' and v_value::numeric between -1 and 1, false) then
      raise exception 'threshold is %', v_value
        using errcode = 'LF001', hint = 'Give a similarity from -1 to 1, or leave it out and call flywheel.calibrate_knn().';
    elsif v_key = 'k' and not coalesce(
      jsonb_typeof(v_value) = 'number' and v_value::numeric between 1 and 50 and v_value::numeric % 1 = 0, false
    ) then
      raise exception 'k is %', v_value using errcode = 'LF001', hint = 'Give of how many nearest texts the similarity is the mean, from 1 to 50.';
    elsif v_key = 'text' and not (v_value = '"input"' or v_value = '"output"' and version.body <> 'anomaly') then
      raise exception 'text is %', v_value
        using errcode = 'LF001',
          hint = case version.body when 'anomaly' then 'The rule ''anomaly'' compares inputs: leave text out.' else 'Use "input" or "output".' end;
    elsif v_key = 'window' and not flywheel._is_window(v_value) then
      raise exception 'window is %', v_value using errcode = 'LF001', hint = 'Give an interval, for example "window": "7 days".';
    end if;
  end loop;
end
$$;

comment on function flywheel._check_knn(flywheel._validator_versions) is
  'Refuses the rule and params of a nearest-neighbour validator that make no sense.';

create or replace function flywheel._is_window(value jsonb)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  return jsonb_typeof(value) = 'string' and (value #>> '{}')::interval > interval '0'
    -- Longer than anything was kept, and what can be subtracted from a date.
    and (value #>> '{}')::interval < interval '1000 years';
exception when others then
  return false;
end
$$;

comment on function flywheel._is_window(jsonb) is 'Whether a JSON value is a positive interval.';

-- Runs for each new version: another rule or text has other labelled examples.
create or replace function flywheel._build_knn_version(version flywheel._validator_versions)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  update flywheel._validator_versions as v
  set reads = array[(flywheel._knn_default_params(version.body) || version.params) ->> 'text']
  where v.version_id = version.version_id;
  delete from flywheel._references as r where r.validator_id = version.validator_id and r.example_id is not null;
  perform flywheel._add_example_references(array(
    select e from flywheel._examples as e where e.validator_id = version.validator_id and e.kind = 'verdict'
  ));
end
$$;

comment on function flywheel._build_knn_version(flywheel._validator_versions) is
  'Notes what a nearest-neighbour validator version reads, and takes up its labelled examples.';
