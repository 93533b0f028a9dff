-- `IN` with a list builds a small table each time that a row is checked; `OR` only compares. The same rules in other
-- words, so the rows need no look: https://www.sqlite.org/lang_altertable.html, "making other kinds of table schema changes".
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(replace(replace(replace(replace(replace(replace(sql,
    '(state IN (''queued'', ''starting'', ''running'', ''succeeded'', ''failed'', ''cancelled''))',
    '(state = ''queued'' OR state = ''starting'' OR state = ''running'' OR state = ''succeeded'' OR state = ''failed'' OR state = ''cancelled'')'),
    'state NOT IN (''running'', ''succeeded'')', '(state <> ''running'' AND state <> ''succeeded'')'),
    'state NOT IN (''queued'', ''starting'')', '(state <> ''queued'' AND state <> ''starting'')'),
    '(state IN (''succeeded'', ''failed'', ''cancelled''))',
    '(state = ''succeeded'' OR state = ''failed'' OR state = ''cancelled'')'),
    '(failure_kind IN (''exit'', ''signal'', ''timed_out'', ''out_of_memory'', ''output_limit'',
                                            ''start_failed'', ''interrupted'', ''node_failed'', ''preempted'', ''unknown''))',
    '(failure_kind = ''exit'' OR failure_kind = ''signal'' OR failure_kind = ''timed_out''
                           OR failure_kind = ''out_of_memory'' OR failure_kind = ''output_limit''
                           OR failure_kind = ''start_failed'' OR failure_kind = ''interrupted''
                           OR failure_kind = ''node_failed'' OR failure_kind = ''preempted'' OR failure_kind = ''unknown'')'),
    '(coalesce(failure_kind, '''') IN (''exit'', ''signal''))',
    '(coalesce(failure_kind, '''') = ''exit'' OR coalesce(failure_kind, '''') = ''signal'')'),
    '(stop_reason IN (''cancel'', ''time'', ''memory'', ''output'', ''shutdown''))',
    '(stop_reason = ''cancel'' OR stop_reason = ''time'' OR stop_reason = ''memory'' OR stop_reason = ''output''
                           OR stop_reason = ''shutdown'')')
WHERE type = 'table' AND name = 'job';
PRAGMA writable_schema = RESET;

-- The ends of ids are random: each entry is a page of its own to write. It is made when a job ends; those that have not
-- are few, or found by a walk along the queue.
DROP INDEX job_by_tail;
CREATE INDEX job_by_tail ON job (id_tail) WHERE finished_at IS NOT NULL;

-- A state that only jobs that have not ended have is found by a walk or by the small indexes; each move of a job changed
-- this one twice.
DROP INDEX job_by_state;
CREATE INDEX job_by_end ON job (state) WHERE finished_at IS NOT NULL;

-- Its largest value is kept instead, rounded up: see the writer.
INSERT OR REPLACE INTO high_water (name, value)
SELECT 'changed_seq', max(coalesce((SELECT max(changed_seq) FROM job), 0),
                          coalesce((SELECT value FROM high_water WHERE name = 'changed_seq'), 0));
DROP INDEX job_changed;
