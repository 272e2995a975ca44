-- Looking at a judge before it costs anything, and signing off on its prompt.

create or replace function flywheel.preview_prompts(name text, n integer default 5)
returns table (
  trace_id uuid,
  span_id uuid,
  request jsonb,
  skipped_reason text,
  input_tokens integer,
  cost_usd numeric,
  matching_per_day numeric,
  cost_usd_per_day numeric
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
#variable_conflict use_column
declare
  v_version flywheel._validator_versions := flywheel._latest_version(flywheel._find_validator(name));
  v_model flywheel._models;
  v_output_tokens bigint;
  v_per_day numeric;
begin
  if v_version.language <> 'llm' then
    raise exception '% is no judge, its language is %', quote_ident(name), v_version.language
      using errcode = 'LF002', hint = 'Try it with flywheel.test_validator().';
  end if;
  if n is null or n < 1 then
    raise exception 'n is %', coalesce(n::text, 'null')
      using errcode = 'LF002', hint = 'Give the number of recent rows to look at, at least 1.';
  end if;
  v_model := flywheel._find_model(v_version.model);
  -- A reply is as long as this model's replies have been; 120 tokens before there is one.
  select avg(r.output_tokens) / nullif(avg(r.requests), 0) into v_output_tokens
  from (
    select r.output_tokens, r.requests
    from flywheel._runs as r
    where r.model_id = v_model.model_id and r.requests > 0
    order by r.run_id desc
    limit 200
  ) as r;
  v_per_day := flywheel._matching_per_day(v_version);

  return query execute format(
    $query$
    with asked as (
      select k.trace_id, k.span_id, q.request, q.skipped_reason,
        (q.request ->> 'votes')::integer as votes,
        (
          -- A few tokens a message say whose it is.
          select sum(flywheel._token_estimate(m ->> 'content') + 4)
          from jsonb_array_elements(q.request -> 'body' -> 'messages') as m
        ) as tokens
      from (%s) as k, lateral flywheel._judge_request($1, $2, to_jsonb(k) - 'dimension_id') as q
    ),
    priced as (
      select a.*,
        case when a.request is null then 0 else flywheel._cost_usd(
          ($2).model_id, flywheel.now(), a.tokens * a.votes, 0, $3 * a.votes
        ) end as cost
      from asked as a
    )
    select p.trace_id, nullif(p.span_id, flywheel._no_span()), p.request, p.skipped_reason,
      coalesce(p.tokens * p.votes, 0)::integer, p.cost, $4,
      -- Without a price it is not known, whatever the skipped ones cost.
      case when bool_and(p.cost is not null) over () then round($4 * avg(p.cost) over (), 6) end
    from priced as p$query$,
    flywheel._recent_rows(v_version, n, null)
  )
  using v_version, v_model, coalesce(v_output_tokens, 120), v_per_day;
  if not found then
    raise notice 'no row that is stored is one for %', quote_ident(name)
      using hint = 'Its pipeline, node, kind and sample_rate say which are.';
  end if;
end
$$;

comment on function flywheel.preview_prompts(text, integer) is
  'Dry run of a judge''s newest version, enabled or not, over the latest n rows it applies to: the calls as they would be made, their tokens (of all votes) and cost as estimated, and what a day like the last seven would cost. A row that it would skip costs nothing, a model without a price is null. Nothing is called, nothing stored.';

-- As tokenizers do: a common word is one token, digits go in threes, punctuation in twos, other alphabets
-- in twos, and a character of Chinese or Japanese is a little less than one. Measured in tests/judges.
create or replace function flywheel._token_estimate(content text)
returns integer
language sql
immutable
parallel safe
begin atomic
  select ceil(
    regexp_count(content, '[A-Za-z]{1,9}|[0-9]{1,3}|[!-/:-@\[-`{-~]{1,2}|[\u00a1-\u1fff]{1,2}|[\u2000-\u2dff]')
    + 0.9 * regexp_count(content, '[^\u0001-\u2dff]')
  )::integer;
end;

comment on function flywheel._token_estimate(text) is 'About how many tokens a text has.';

create or replace function flywheel._matching_per_day(version flywheel._validator_versions)
returns numeric
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_now constant timestamptz := flywheel.now();
  v_table constant text := case version.subject when 'trace' then 'flywheel.traces' else 'flywheel.spans' end;
  v_since timestamptz;
  v_count bigint;
begin
  -- What began yesterday has no seven days yet.
  execute format('select greatest(min(n.received_at), $1) from %s as n', v_table)
  into v_since using v_now - interval '7 days';
  execute format(
    $query$
    select count(*)
    from %s as n
    where n.received_at > $1 and %s$query$,
    case version.subject
      when 'trace' then v_table
      else '(select s.*, t.pipeline from flywheel.spans as s left join flywheel.traces as t on t.trace_id = s.trace_id)'
    end,
    array_to_string(array['true'] || flywheel._version_filters(version, 'n', 'try'), ' and ')
  ) into v_count using v_now - interval '7 days';
  return round(v_count / greatest(ceil(extract(epoch from v_now - v_since) / 86400), 1), 1);
end
$$;

comment on function flywheel._matching_per_day(flywheel._validator_versions) is
  'How many rows a day a validator has applied to: over the last seven days, or since there are rows.';

create or replace function flywheel.approve_prompt(validator text, version integer default null, comment text default null)
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_version flywheel._validator_versions := flywheel._latest_version(flywheel._find_validator(validator));
  v_number constant integer := coalesce(approve_prompt.version, v_version.version);
begin
  if v_version.version <> v_number then
    select v.* into v_version
    from flywheel._validator_versions as v
    where v.validator_id = v_version.validator_id and v.version = v_number;
    if not found then
      raise exception '% has no version %', quote_ident(validator), v_number
        using errcode = 'LF003', hint = 'Leave version out for the newest.';
    end if;
  end if;
  if v_version.language <> 'llm' then
    raise exception '% has no prompt, its language is %', quote_ident(validator), v_version.language
      using errcode = 'LF002', hint = 'Only judges (language llm) have prompts to approve.';
  end if;
  insert into flywheel._approvals as a (version_id, prompt_sha256, comment)
  values (v_version.version_id, flywheel._prompt_sha256(v_version), approve_prompt.comment)
  on conflict on constraint _approvals_pkey do update
  set prompt_sha256 = excluded.prompt_sha256, approved_at = excluded.approved_at,
    approved_by = excluded.approved_by, comment = excluded.comment
  where a.prompt_sha256 <> excluded.prompt_sha256;
  perform pg_notify('flywheel_jobs', '');
  return v_number;
end
$$;

comment on function flywheel.approve_prompt(text, integer, text) is
  'Signs off on the prompt of a judge (its newest version, or that one): with flywheel.require_prompt_approval on, no other is sent. A new version, or new instructions of a new release, need a new approval. Returns the version.';
