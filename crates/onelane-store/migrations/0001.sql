-- Times are milliseconds since the epoch; ids are the sixteen bytes of a UUID; JSON is text.

-- What was accepted under which definition; jobs refer to the short key, so that their rows stay narrow.
CREATE TABLE tool_definition (
    key        INTEGER PRIMARY KEY,
    hash       TEXT NOT NULL UNIQUE,
    definition TEXT NOT NULL
) STRICT;

CREATE TABLE job (
    seq             INTEGER PRIMARY KEY,
    id              BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    -- The last eight hexadecimal digits of the id read backwards as a number: a suffix of the id is a range of it.
    id_tail         INTEGER NOT NULL,
    owner           TEXT NOT NULL,
    tool            TEXT NOT NULL,
    definition      INTEGER NOT NULL REFERENCES tool_definition (key),
    name            TEXT,
    priority        INTEGER NOT NULL CHECK (priority BETWEEN -100 AND 100),
    order_key       INTEGER NOT NULL,
    state           TEXT NOT NULL
                    CHECK (state IN ('queued', 'starting', 'running', 'succeeded', 'failed', 'cancelled')),
    ready_at        INTEGER CHECK ((ready_at IS NOT NULL) = (state = 'queued')),
    claimed_at      INTEGER CHECK ((claimed_at IS NOT NULL) = (state = 'starting')),
    started_at      INTEGER
                    CHECK (started_at IS NOT NULL OR state NOT IN ('running', 'succeeded'))
                    CHECK (started_at IS NULL OR state NOT IN ('queued', 'starting')),
    stuck           INTEGER NOT NULL DEFAULT 0 CHECK (stuck = 0 OR (stuck = 1 AND state = 'running')),
    finished_at     INTEGER
                    CHECK ((finished_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'cancelled'))),
    failure_kind    TEXT
                    CHECK ((failure_kind IS NOT NULL) = (state = 'failed'))
                    CHECK (failure_kind IN ('exit', 'signal', 'timed_out', 'out_of_memory', 'output_limit',
                                            'start_failed', 'interrupted', 'node_failed', 'preempted', 'unknown')),
    failure_code    INTEGER
                    CHECK ((failure_code IS NOT NULL) = (coalesce(failure_kind, '') IN ('exit', 'signal'))),
    failure_message TEXT CHECK ((failure_message IS NOT NULL) = (state = 'failed')),
    stop_reason     TEXT CHECK (stop_reason IN ('cancel', 'time', 'memory', 'output', 'shutdown')),
    attempt         INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    digest          TEXT NOT NULL,
    result_of       BLOB CHECK (length(result_of) = 16),
    created_at      INTEGER NOT NULL,
    changed_seq     INTEGER NOT NULL
) STRICT;

-- Work on what is alive must cost the same with ten or ten million ended jobs: these hold nothing else.
CREATE INDEX job_queued ON job (order_key) WHERE state = 'queued';
CREATE INDEX job_alive ON job (seq) WHERE state IN ('starting', 'running');

-- Unique, since what follows changes resumes from it; also makes its maximum a look-up at open.
CREATE UNIQUE INDEX job_changed ON job (changed_seq);

-- Lists are newest first; each index ends with the rowid, which is `seq`.
CREATE INDEX job_by_tail ON job (id_tail);
CREATE INDEX job_by_owner ON job (owner);
CREATE INDEX job_by_tool ON job (tool);
CREATE INDEX job_by_state ON job (state);
CREATE INDEX job_by_name ON job (name) WHERE name IS NOT NULL;

CREATE TABLE job_tag (
    job INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    tag TEXT NOT NULL,
    PRIMARY KEY (job, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_tag_by_tag ON job_tag (tag, job);

-- What a waiting job waits for; emptied when it leaves the queue, so that it stays as small as the queue.
CREATE TABLE job_after (
    job   INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    after BLOB NOT NULL CHECK (length(after) = 16),
    PRIMARY KEY (job, after)
) STRICT, WITHOUT ROWID;

CREATE TABLE job_input (
    job    INTEGER PRIMARY KEY REFERENCES job (seq) ON DELETE CASCADE,
    params TEXT NOT NULL,
    files  TEXT NOT NULL,
    notes  TEXT NOT NULL
) STRICT;

CREATE TABLE attempt (
    job               INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    attempt           INTEGER NOT NULL CHECK (attempt >= 1),
    claimed_at        INTEGER NOT NULL,
    started_at        INTEGER,
    finished_at       INTEGER,
    pid               INTEGER,
    start_time        INTEGER CHECK ((start_time IS NULL) = (pid IS NULL)),
    boot_id           TEXT CHECK ((boot_id IS NULL) = (pid IS NULL)),
    pid_namespace     TEXT CHECK ((pid_namespace IS NULL) = (pid IS NULL)),
    tool_version      TEXT,
    outcome           TEXT,
    exit_code         INTEGER,
    wall_s            REAL,
    cpu_s             REAL CHECK ((cpu_s IS NULL) = (wall_s IS NULL)),
    memory_peak_bytes INTEGER CHECK ((memory_peak_bytes IS NULL) = (wall_s IS NULL)),
    PRIMARY KEY (job, attempt)
) STRICT, WITHOUT ROWID;

-- No reference to `job`: a key outlives its job and then points nowhere.
CREATE TABLE idempotency (
    owner        TEXT NOT NULL,
    key          TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    job          BLOB NOT NULL CHECK (length(job) = 16),
    PRIMARY KEY (owner, key)
) STRICT, WITHOUT ROWID;

-- For fair queueing between owners.
CREATE TABLE owner_clock (
    owner TEXT PRIMARY KEY,
    clock INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE setting (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The largest `seq` and `changed_seq` when a job was last deleted: without them a deleted newest job's numbers would
-- be given again after a restart.
CREATE TABLE high_water (
    name  TEXT PRIMARY KEY CHECK (name IN ('seq', 'changed_seq')),
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
