-- Two facts, one after the other: what traces say, and what spans say. Each is added up by itself.
select flywheel._set_builtin_metric(
  name => 'usage',
  storage => 'view',
  refresh_every => null,
  description => 'How much is used, how long it takes and what it costs: of traces, and of spans by node and model, per pipeline, variant, environment, release and UTC day.',
  columns => $json${
    "subject": "trace or span: what the row counts. The tokens of a trace are in the rows of its spans.",
    "pipeline": "Pipeline of the trace; null for spans whose trace has not arrived.",
    "variant": "Variant of the trace.",
    "environment": "Environment of the trace.",
    "release": "Release of the trace.",
    "node": "Node of the spans.",
    "model": "Model of the spans.",
    "day": "UTC day on which the traces or spans started.",
    "traces": "Traces; 0 in rows of spans.",
    "spans": "Spans; 0 in rows of traces.",
    "errors": "Those of them with the status error.",
    "blocked": "Those of them with the status blocked.",
    "latency_p50": "Milliseconds from start to end, median of those that have ended, within 1 %.",
    "latency_p90": "Milliseconds that 90 % do not exceed, within 1 %.",
    "latency_p95": "Milliseconds that 95 % do not exceed, within 1 %.",
    "latency_p99": "Milliseconds that 99 % do not exceed, within 1 %.",
    "input_tokens": "Tokens sent to models.",
    "cached_input_tokens": "Of these, tokens the provider had in its cache, as the attributes of the spans say.",
    "output_tokens": "Tokens that models returned.",
    "cost_usd": "Cost in US dollars, as the spans say.",
    "latency_histogram": "How many took about how many milliseconds: an array of [value, count], as in score_distributions; null if none has ended."
  }$json$,
  query => $query$
with trace_counts as (
  select t.pipeline, t.variant, t.environment, t.release, (t.started_at at time zone 'UTC')::date as day,
    flywheel._quantile_bucket(flywheel._milliseconds(t.started_at, t.ended_at)) as bucket,
    count(*) as n,
    count(*) filter (where t.status = 'error') as errors,
    count(*) filter (where t.status = 'blocked') as blocked
  from flywheel.traces as t
  group by t.pipeline, t.variant, t.environment, t.release, (t.started_at at time zone 'UTC')::date,
    flywheel._quantile_bucket(flywheel._milliseconds(t.started_at, t.ended_at))
),
span_counts as (
  select t.pipeline, t.variant, t.environment, t.release, s.node, s.model, (s.started_at at time zone 'UTC')::date as day,
    flywheel._quantile_bucket(flywheel._milliseconds(s.started_at, s.ended_at)) as bucket,
    count(*) as n,
    count(*) filter (where s.status = 'error') as errors,
    count(*) filter (where s.status = 'blocked') as blocked,
    sum(s.input_tokens) as input_tokens,
    sum(flywheel._cached_tokens(s.attributes)) as cached_input_tokens,
    sum(s.output_tokens) as output_tokens,
    sum(s.cost_usd) as cost_usd
  from flywheel.spans as s
  left join flywheel.traces as t on t.trace_id = s.trace_id
  group by t.pipeline, t.variant, t.environment, t.release, s.node, s.model, (s.started_at at time zone 'UTC')::date,
    flywheel._quantile_bucket(flywheel._milliseconds(s.started_at, s.ended_at))
),
counts as (
  select 'trace' as subject, t.pipeline, t.variant, t.environment, t.release, null::text as node, null::text as model,
    t.day, t.bucket, t.n as traces, 0::bigint as spans, t.errors, t.blocked,
    null::bigint as input_tokens, null::bigint as cached_input_tokens, null::bigint as output_tokens, null::numeric as cost_usd
  from trace_counts as t
  union all
  select 'span' as subject, s.pipeline, s.variant, s.environment, s.release, s.node, s.model,
    s.day, s.bucket, 0::bigint as traces, s.n as spans, s.errors, s.blocked,
    s.input_tokens, s.cached_input_tokens, s.output_tokens, s.cost_usd
  from span_counts as s
),
ranked as (
  select c.*, flywheel._quantile_value(c.bucket) as latency,
    -- Those that have not ended have no bucket, and come last.
    sum(c.traces + c.spans) filter (where c.bucket is not null) over (sorted) as up_to,
    sum(c.traces + c.spans) filter (where c.bucket is not null) over (whole) as total_n
  from counts as c
  window
    whole as (partition by c.subject, c.pipeline, c.variant, c.environment, c.release, c.node, c.model, c.day),
    sorted as (whole order by c.bucket)
)
select
  r.subject,
  r.pipeline,
  r.variant,
  r.environment,
  r.release,
  r.node,
  r.model,
  r.day,
  sum(r.traces)::bigint as traces,
  sum(r.spans)::bigint as spans,
  sum(r.errors)::bigint as errors,
  sum(r.blocked)::bigint as blocked,
  min(r.latency) filter (where r.up_to >= 0.50 * r.total_n) as latency_p50,
  min(r.latency) filter (where r.up_to >= 0.90 * r.total_n) as latency_p90,
  min(r.latency) filter (where r.up_to >= 0.95 * r.total_n) as latency_p95,
  min(r.latency) filter (where r.up_to >= 0.99 * r.total_n) as latency_p99,
  sum(r.input_tokens)::bigint as input_tokens,
  sum(r.cached_input_tokens)::bigint as cached_input_tokens,
  sum(r.output_tokens)::bigint as output_tokens,
  sum(r.cost_usd) as cost_usd,
  jsonb_agg(jsonb_build_array(r.latency, r.traces + r.spans) order by r.bucket) filter (where r.bucket is not null) as latency_histogram
from ranked as r
group by r.subject, r.pipeline, r.variant, r.environment, r.release, r.node, r.model, r.day
$query$
);
