-- Which labels count. Private: the public views and the judge's examples read them.

create or replace view flywheel._standing_labels as
select l.*
from flywheel._labels as l
where not exists (
  select from flywheel._label_withdrawals as w where w.trace_id = l.trace_id and w.label_id = l.label_id
);

comment on view flywheel._standing_labels is 'The labels that are not withdrawn.';

create or replace view flywheel._current_labels as
select l.*
from flywheel._label_heads as h
join flywheel._labels as l on l.trace_id = h.trace_id and l.label_id = h.label_id;

comment on view flywheel._current_labels is 'The current label of each target and validator: of the highest precedence, the newest.';
