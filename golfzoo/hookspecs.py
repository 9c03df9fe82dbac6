"""The seams: one hook for each kind of component. Everything that can be swapped is on this page.

A plugin implements the hooks it has components for. Each takes nothing and returns a list of `Component`; registering
is all it does. A component acts only when a record names it, so installing a plugin never changes what a record does.

A component's target is called with `config`, a plain namespace of its options, and with what its hook lists below.
Tensors are given as (shape). A `state` is a dict of parameter name -> tensor, and `roles` a dict of parameter name ->
"embedding", "head", "matrix" or "control". The engine hands over exactly these arguments, never itself.

A body ships with what it imports. A module that only some records need, beside it in its package, may be imported by a
name that an option has: it ships where a record gives the option that value (golfzoo_muon, coefficients = "polar").
"""

import pluggy

from golfzoo.component import Component

hookspec = pluggy.HookspecMarker("golfzoo")
hookimpl = pluggy.HookimplMarker("golfzoo")


@hookspec
def golfzoo_tokenizers() -> list[Component]:
    """What token ids stand for, in bytes; sentencepiece where a record names none. Target: `(config, path, folder) ->
    object`: `path` is that of the file that [data] names, which need not be there, `folder` the dataset's.

    vocab_size                       token ids are below it; 1 starts a document
    target_bytes(tokens)             (n + 1,) uint16 -> (n,) integers: the bytes of each token but the first, given
                                     those before it. A pure function, also of texts that are no dataset's
    decode(ids)                      the bytes that a list of ids stands for; those that are special have none

    The engine counts what target_bytes says. Before training, and in `golfzoo verify`, the bytes of every document of
    the validation text must be as many as decode gives for it; but for a space at its very start, which may be missing.

    `encoder` of the Component makes datasets, for `golfzoo data build`, and does not ship: `(config) -> object` with

    open(path), encode(texts)        with the file at that path; lists of ids, without BOS
    train(lines, vocab_size)         the contents of a new file; not there where a tokenizer has none
    label                            what is added to a dataset's name, with {vocab_size} where it has one
    side_file                        optional: True where `*_val_bytes_*.bin` is to be written: the bytes of each token
                                     of the validation text, in the format of its shards
    """


@hookspec
def golfzoo_architectures() -> list[Component]:
    """Language models. Target: `(config, vocab_size, parts) -> nn.Module`, initialised from torch's seeded generator.

    `parts` is a dict of name -> what makes the part, called with `shape`. An architecture that has none need not take
    it.

    forward(input_ids)               (batch, time) int64 -> logits (batch, time, vocab_size), floating point. Position t
                                     may depend on input_ids[:, :t+1] only. The engine makes them float32, normalizes
                                     them and looks the targets up: a model never sees what it is scored on.
    parameter_roles()                role of every parameter
    training_loss(input_ids, target_ids)   optional, for training alone (auxiliary losses, fused kernels): nats of each
                                     target, (batch, time)
    phases, enter_phase(n)           optional: fractions of training at which it changes, rising, and what brings it to
                                     phase n, from 0. As built it is in its last phase; it is warmed up in each
    takes_segments                   optional: True where forward and training_loss take `segments` as a further
                                     argument; so it is without this where one is named so
    whole_windows                    optional: True where logits depend on how many tokens the window has; it is then
                                     given windows of their full width, filled up at the end

    Adaptors attach to linear layers, by the last part of their names: c_q, c_v, lm_head where nothing else is said.
    """


@hookspec
def golfzoo_parts() -> list[Component]:
    """Pieces of an architecture, [parts.NAME] of a record. Target: `(config, shape) -> nn.Module`; `part_of` of the
    Component names the architecture. What `shape` has, and which methods of the module are called at which places, is
    on that architecture's first page; the engine knows no place and no part. For gpt: plugins/golfzoo_gpt/model.py.

    starts_off                       optional: True where, as built, it changes nothing
    """


@hookspec
def golfzoo_optimizers() -> list[Component]:
    """Optimizers. Target: `(config, parameters, roles, process_group) -> list[torch.optim.Optimizer]`.

    `parameters` is a dict of name -> nn.Parameter; every one of them belongs in exactly one group. `process_group` is
    None in a single process; gradients arrive averaged over it. Every group carries "base_lr", the learning rate that
    the schedule multiplies before each step; one that decays carries "weight_decay" and "base_weight_decay".

    set_step(step)                   optional, on any of the optimizers: called before each step, counted from 0
    """


@hookspec
def golfzoo_schedules() -> list[Component]:
    """Schedules; warmdown where a record names none. Target: `(config) -> object` with

    multipliers(step, fraction, elapsed, train)   before step `step`, counted from 0: {"lr": what base_lr is multiplied
                                     by}, and so for any other NAME of which groups carry "base_NAME". `fraction` of
                                     training is through, from 0 to 1: of the steps, or of the seconds where they are
                                     capped; `elapsed` seconds; `train` is the record's [train]
    """


@hookspec
def golfzoo_loaders() -> list[Component]:
    """Loaders; sequential where a record names none. Target: `(config, stream, train, world) -> object` with

    batch(index)                     what this process trains on in its micro-step `index`, counted from 0: a tuple of
                                     inputs and targets, int64 on the CPU, both (rows, time), of
                                     [train].micro_batch_tokens; and, for packed rows, segments: int32, where each
                                     begins in the rows laid end to end, from 0 on, then the number of tokens, as often
                                     as is wanted. Models attend within them in training. A pure function of the index:
                                     training may be resumed anywhere

    `stream` has `shards`, a list of (tokens,) uint16 arrays, `paths`, their files, and `read(start, count)` from all of
    them as one stream that starts over at its end. `train` is the record's [train]; `world` has `rank` and `size`. The
    engine reads one batch ahead in a thread, and moves it to the device.
    """


@hookspec
def golfzoo_calibrations() -> list[Component]:
    """What a quantizer's statistics are taken from; where a record names none, batches of training, drawn by the seed.
    Target: `(config, stream, train, world, model) -> object`, as a loader's, with

    batch(index)                     as of a loader, of any shape; asked for from 0 on, once the model is trained. It
                                     may have written the text: `model` maps ids (batch, time) to logits, on
                                     world.device, as it is scored
    """


@hookspec
def golfzoo_averagers() -> list[Component]:
    """Weight averaging: what gets quantized is the average. Target: `(config) -> object` with

    start(state)                     with the initial weights. A state given is to be read only
    update(state, now)               after every step: now.step steps are through, now.multiplier was the learning
                                     rate's in the last of them, now.fraction of training was through before it
    result()                         a state, or None where there is no average yet: then the run fails
    state_dict(), load_state_dict(state)   tensors and plain values, for checkpoints; loaded after start
    """


@hookspec
def golfzoo_qats() -> list[Component]:
    """Quantization-aware training: weights that stand in for the trained ones, forward and backward; the update goes to
    the trained ones (a straight-through estimator). Target: `(config) -> object` with

    active(now)                      whether it acts in the step that comes: now.step from 0, now.fraction of training
                                     is through, now.multiplier is the learning rate's
    fake_quantize(name, weight, role)   what stands in for a weight, of its shape; None for the weight itself
    state_dict(), load_state_dict(state)   optional, where it remembers something of earlier steps
    """


@hookspec
def golfzoo_quantizers() -> list[Component]:
    """Quantizers. Target: `(config) -> object` with

    layout(state, roles)             dict of name -> tensor on the meta device: what quantize will return, told from
                                     shapes alone. The artifact stores no names or shapes; this is where they come from.
    quantize(state, roles, calibration, knob)   (tensors, metadata): a dict of tensors as laid out, and a small dict of
                                     JSON values. `calibration` is {} and `knob` None for one that asks for neither
    dequantize(tensors, metadata)    a state to load into the model; the same bits on every machine
    needs                            optional: a dict of "hessian", "fisher", "damage" -> number of training tokens.
                                     What engine/calibrate.py then collects is the calibration.
    measure_damage(state, roles, calibration, damage)   with "damage" in needs: called once, after calibration. A dict
                                     of tensors to join the calibration; one named "damage", (points, 2), tells fit what
                                     everything costs: knobs, rising, and nats per token
    damage(changes)                  takes mappings of name -> tensor, each some trained weights changed, and gives what
                                     each costs, (changes,) float64: the KL divergence from the trained model's
                                     predictions on training text, in nats per token; the same on every process. Only
                                     the process that measures a change reads it, so that it may be made then
    knob                             optional: where the knob starts, a positive float that quantize goes by; more of it
                                     is fewer bytes. [size] fit moves it.
    draft(state, roles, calibration, knob)      optional: as quantize, a quicker result of nearly the same size
    """


@hookspec
def golfzoo_compressors() -> list[Component]:
    """Lossless compressors. Target: `(config) -> object` with

    compress(data)                   bytes -> bytes, the same for the same data
    decompress(data, max_bytes)      the exact inverse; raises on damaged data, and before it takes more memory than
                                     an honest result of max_bytes needs

    Or a coder, which knows what it is given, with these instead. Nothing of the layout needs to be in its bytes.

    encode(tensors, metadata)        the quantizer's tensors and metadata -> bytes, the same for the same tensors
    decode(data, layout, metadata)   the exact inverse, as laid out (on the meta device) and in that order; raises
                                     on damaged data. The metadata is the artifact's own: not to be trusted
    estimate(tensors, metadata)      len(encode(...)) as a float, within 0.3 %, in less time
    """


@hookspec
def golfzoo_adaptors() -> list[Component]:
    """Test-time adaptors: they learn from text that has been scored. Target: `(config) -> object` with

    start(model, lanes)              attach to the model's layers, with room for `lanes` documents at once. With nothing
                                     learned, the model must compute exactly what it computed before.
    finish()                         detach, leaving the model as it was

    and one or both of two abilities. To learn from single documents, as they are scored:

    reset()                          forget everything: the lanes get new documents
    learn(nll, scored)               nll (batch, time), with its graph: the engine's losses of the forward just scored;
                                     scored (batch, time) bool: the positions to learn from, those that were scored in
                                     it in documents that go on. Row i is lane i; `batch` shrinks as documents end.
    read(input_ids, target_ids)      optional: right before it, the tokens of that forward and those that nll is of,
                                     (batch, time) int64, on the CPU; 0 behind a window's end

    To learn across the text, which then is scored in rounds:

    rounds(sizes)                    after how much it reviews, rising: of documents if it has `learn` too, whose sizes
                                     in targets it is told in the order of scoring; else of targets, and sizes are those
                                     of the documents in the order of the text. A function of lengths alone
    review(texts, group)             train the model, every target of the round being scored: a list of (n + 1,) int64,
                                     the same on every process, the tokens of which all but the first were targets of
                                     this round; `group` is for averaging gradients, None in a single process. Only here
                                     do the weights take gradients; what becomes of them is undone in the end.
    across_documents = True          said openly: what is learned from one document is there for others
    attaches = False                 optional, where it does not have `learn`: it hangs nothing on the model, which then
                                     is scored compiled where training is
    """


@hookspec
def golfzoo_loggers() -> list[Component]:
    """Loggers: they show a run elsewhere and change nothing of it. Target: `(config, record, folder) -> object`.

    `record` is the resolved record as a dict of tables, `folder` the run's, as a pathlib.Path. They are built in the
    first process alone, and again where a run is resumed. One that raises is reported, and told nothing more. They
    never ship in a submission.

    event(event)                     a dict, a line of metrics.jsonl: "train" {step, loss, seconds, lr_multiplier,
                                     grad_norm}, "val" {step, val_loss, val_bpb, ...}, "size", "score", ...; training
                                     waits for it
    finish(result)                   the run has ended, failed or been interrupted; result.json as a dict
    """
