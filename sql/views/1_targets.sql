-- Private views that other views, sweep and doctor share.

create or replace view flywheel._dimension_values as
select distinct d.dimension_id, d.pipeline, d.variant, d.environment, d.release, d.node, d.day
from flywheel._dimensions as d;

comment on view flywheel._dimension_values is 'The combinations of _dimensions, each once.';

create or replace view flywheel._targets as
select t.trace_id, flywheel._no_span() as span_id, 'trace' as subject, t.revision, t.generation,
  t.pipeline, null::text as node, null::text as kind
from flywheel.traces as t
union all
select s.trace_id, s.span_id, 'span', s.revision, s.generation, t.pipeline, s.node, s.kind
from flywheel.spans as s
left join flywheel.traces as t on t.trace_id = s.trace_id;

comment on view flywheel._targets is 'Everything a verdict can be about: each trace and each span.';

create or replace view flywheel._missing as
select v.version_id, g.trace_id, g.span_id
from flywheel._validator_versions as v
join flywheel._validators as n on n.validator_id = v.validator_id and n.dropped_at is null
join flywheel._targets as g
  on g.subject = v.subject
  and g.generation <@ v.active_generations
  and (v.pipeline is null or g.pipeline = v.pipeline)
  and (v.node is null or g.node = v.node)
  and (v.kind is null or g.kind = v.kind)
  and (v.sample_rate = 1 or flywheel._is_sampled(g.trace_id, v.sample_rate))
left join flywheel._verdicts as d
  on d.trace_id = g.trace_id and d.span_id = g.span_id and d.version_id = v.version_id and d.revision = g.revision
left join flywheel._jobs as j
  on j.trace_id = g.trace_id and j.span_id = g.span_id and j.version_id = v.version_id and j.revision = g.revision
where d.version_id is null and j.version_id is null;

comment on view flywheel._missing is
  'Verdicts that are owed and neither written nor enqueued: filter, sampling and the generation of the row say they should be.';
