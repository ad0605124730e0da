// Generated from steerlab/ui by `npm run protocol`: change protocol.py or a question there, not this file.

/** A direction that tokens are projected on. */
export interface AlongDirection {
  name: string;
  /** The layer, of those that are read, nearest to where it was found; the middle one where that is not known. */
  layer: number;
}

/** Kernel -> front end: the answer to a question. */
export interface Answer {
  kind: "answer";
  id: string;
  answer: Asks[keyof Asks]['answer'];
}

/** On how many forward passes the recipe was applied. */
export interface Applied {
  steps: number;
  of: number;
}

/** Front end -> kernel: a question, answered under its id by any number of Progress and Part, and then by one Answer
or Failure. A question that equals one being answered joins it. */
export interface Ask {
  kind: "ask";
  id: string;
  what: Question;
  /** Only join the answer that is on its way, or take the one that is kept; begin nothing. */
  join: boolean;
}

/** Front end -> kernel: the answer is not wanted under this id any more. Once nobody wants it, its work ends. */
export interface Cancel {
  kind: "cancel";
  id: string;
  /** A person ends it, for everyone who asked. */
  everyone: boolean;
}

/** An answer in a cell. */
export interface CellText {
  prompt: string;
  text: string;
  /** None where the text is not the model's answer. */
  verdict: Verdict | null;
  /** Why it is not, as in `Generation`. */
  fault: string;
}

/** The ways of writing the recipe. */
export interface CodeAnswer {
  forms: CodeForm[];
}

/** One way of writing it. */
export interface CodeForm {
  name: string;
  /** What it is and where it runs, in a line. */
  title: string;
  language: "python" | "json";
  source: string;
  /** Why it cannot be written this way; `source` is empty then. */
  missing: Trouble | null;
}

/** What program is the recipe of this revision? */
export interface CodeQuestion {
  kind: "code";
  revision: number;
  /** Of sampled answers. */
  seed: number;
}

/** The texts, in the order of the names. */
export interface CompareAnswer {
  texts: ComparedText[];
}

/** What does the model write under each of these snapshots? */
export interface CompareQuestion {
  kind: "compare";
  names: string[];
  /** Of each, so that a name that means something else is asked about anew. */
  fingerprints: string[];
  /** As in Info. */
  epoch: number;
}

/** The text of a snapshot. */
export interface ComparedText {
  name: string;
  text: string;
  finish: string;
  /** None for an empty text, and for a faulty one. */
  verdict: Verdict | null;
  /** Why the text is not the model's answer, as in `Generation`. */
  fault: string;
  /** None where nothing is steered. */
  applied: Applied | null;
}

/** Kernel -> front end: what was asked for cannot be done. Nothing changes, a run that is going on goes on. */
export interface Complaint {
  kind: "complaint";
  error: Trouble;
}

/** Cosines [layers layers]; None where the two sides do not differ. */
export interface CosinesAnswer {
  values: ((number | null)[])[];
}

/** How alike are a map's directions of different layers? */
export interface CosinesQuestion {
  kind: "map-cosines";
  map: string;
  position: number | "response";
}

/** By row: KL(all but this row || all) of the first token, in nats; None where the row does nothing. */
export interface CostsAnswer {
  kl: (number | null)[];
  /** Over which it is too much, in nats. */
  budget: number;
}

/** What does each row cost on a prompt? */
export interface CostsQuestion {
  kind: "costs";
  prompt: string;
  steering: SteeringState[];
  /** Of the rows' directions. */
  fingerprints: string[];
  /** Of the newest state that no panel made, which tells apart steps that have no row; 0 where there are none. */
  revision: number;
  /** As in Info. */
  epoch: number;
}

/** A direction that can be used in the panel. */
export interface DirectionInfo {
  name: string;
  /** Where it was found; None where that is not known. */
  layer: number | null;
  point: "resid_pre" | "attn_out" | "resid_mid" | "mlp_out" | "resid_post" | null;
  /** The Euclidean norm |v|. */
  norm: number;
  /** The mean norm of the residual stream at its site: |v| times the coefficient over this is the scale of a push. */
  residual_norm: number | null;
  /** Of its numbers, by which a question says which vector a name meant. */
  fingerprint: string;
  description: string;
}

/** All that takes no model. */
export interface DirectionsAnswer {
  names: string[];
  /** Of each. */
  facts: Fact[][];
  /** Between them; empty where their widths differ. */
  cosines: ((number | null)[])[];
  /** The newest, `lab.map`. */
  map: MapInfo | null;
  /** Of each direction the cell of the map that it is; None where it is none of them. */
  own: (OwnCell | null)[];
}

/** What is known of the lab's directions? */
export interface DirectionsQuestion {
  kind: "directions";
  revision: number;
  /** As in Info. */
  map: string;
}

/** It is done. */
export interface Done {
}

/** Kernel -> front end: the run is over. After an error the panes keep their last good text. */
export interface End {
  kind: "end";
  run: number;
  status: "done" | "stopped" | "error";
  panes: Record<string, PaneEnd>;
  error: Trouble | null;
}

/** It is ended, or soon will be. */
export interface EndJobAnswer {
  id: string;
}

/** End this job. */
export interface EndJobQuestion {
  kind: "end-job";
  id: string;
}

/** The files. */
export interface ExportAnswer {
  files: FileBytes[];
}

/** The recipe, or a direction, as files. */
export interface ExportQuestion {
  kind: "export";
  /** recipe: a .steer.json with its vectors. Of a direction: steerlab's own file, a control vector, and direction.pt with direction_metadata.json. */
  form: "recipe" | "safetensors" | "gguf" | "pt";
  direction: string;
  /** Of the direction, or of nothing. */
  fingerprint: string;
  revision: number;
}

/** Shares, the mean over the tokens of |x . u| / |x|. */
export interface ExpressionAnswer {
  points: ("resid_pre" | "attn_out" | "resid_mid" | "mlp_out" | "resid_post")[];
  /** By point and layer. */
  shares: ((number | null)[])[];
  /** What a direction that means nothing would have. */
  chance: number;
  n_tokens: number;
}

/** How strongly does each site of a prompt express a direction? */
export interface ExpressionQuestion {
  kind: "expression";
  direction: string;
  fingerprint: string;
  /** As in Info. */
  epoch: number;
  prompt: string;
}

/** Something that a direction's provenance says. */
export interface Fact {
  name: string;
  value: string;
}

/** Kernel -> front end: there will be no answer. */
export interface Failure {
  kind: "failure";
  id: string;
  error: Trouble;
  /** Whether nothing is wrong, but the answer that somebody wanted to join is not kept any more. */
  gone: boolean;
}

/** Kernel -> front end: what was measured of a run's texts when they rested. */
export interface Figures {
  kind: "figures";
  run: number;
  cross_entropy: Record<string, number | null>;
}

/** A file. */
export interface FileBytes {
  name: string;
  /** Its bytes, in base64. */
  data: string;
}

/** The map, and what was found in it. */
export interface FindAnswer {
  name: string;
  /** Its fingerprint. */
  map: string;
  cells: MapCell[];
  /** Whether the cells have the selection's scores. */
  scored: boolean;
  /** None where every candidate was rejected. */
  best: Found | null;
  trouble: Trouble | null;
  /** Then: thresholds that are enough. */
  relax: Thresholds[];
  /** How many went into the directions, after the selection left some out. */
  prompts: [number, number];
  /** How many others the selection chose by; None for no choice. */
  chose: [number, number] | null;
}

/** Which direction tells two sides of prompts apart? */
export interface FindQuestion {
  kind: "find";
  name: string;
  /** selection: difference in means, and the paper's choice of a cell. means, components (of pairs), caa, probe, pair (of two prompts): the cell that is asked for. */
  method: "selection" | "means" | "components" | "caa" | "probe" | "pair";
  /** What shows the concept; for caa the answers that show it. */
  positive: PromptSet;
  negative: PromptSet;
  /** For caa: what the answers answer, in the same order. */
  asked: PromptSet | null;
  /** Where the stream is read. */
  point: "resid_pre" | "attn_out" | "resid_mid" | "mlp_out" | "resid_post";
  /** Of the cell, and for caa where answers are read. */
  position: number | "response";
  layer: number;
  /** Thresholds of the selection. */
  max_kl: number;
  min_induce: number;
  /** Whether the selection leaves out prompts that the model takes the other way. */
  drop: boolean;
}

/** The cell that was taken. */
export interface Found {
  position: number | "response";
  layer: number;
}

/** Every subset that was measured. */
export interface FrontierAnswer {
  /** Of the direction. */
  fingerprint: string;
  subsets: SubsetPoint[];
  /** The share that is refused without ablation. */
  baseline: Stat;
}

/** How few layers of ablation suffice, and what does each subset cost? */
export interface FrontierQuestion {
  kind: "frontier";
  direction: string;
  method: "windows" | "greedy";
  harmful: PromptSet;
  harmless: PromptSet;
}

/** Front end -> kernel: a view appeared; answered by a Snapshot. */
export interface Hello {
  kind: "hello";
  /** Whether a person wants the random control in panels where nobody has set anything; None where that is not set. */
  control: boolean | null;
}

/** The model that the panel steers. */
export interface Info {
  /** Its Hugging Face id, its folder's name, or "tiny-chat" for the embedded one. */
  name: string;
  /** Where it runs: "local", "ndif". */
  backend: string;
  device: string;
  dtype: string;
  n_layers: number;
  d_model: number;
  /** The points that its blocks have, in forward order. */
  points: ("resid_pre" | "attn_out" | "resid_mid" | "mlp_out" | "resid_post")[];
  /** What each site is, in words: by point (in the order of `points`), then by layer. */
  sites: string[][];
  /** The longest text it can read, in tokens. */
  context: number;
  /** The commit of its repository on the hub, where that is known. */
  revision: string | null;
  /** The phrases by which a text is told to refuse (`metrics.REFUSALS`). */
  refusals: string[];
  /** For how many coefficients of a slider texts are made ahead (`Lab.ahead`). */
  ahead: number;
  /** How often a run saw other weights or another chat template than the one before: older figures are of those. */
  epoch: number;
  /** The fingerprint of `Lab.map`; empty for no map. */
  map: string;
}

/** Kernel -> front end: where the job is that a server computes for this lab. */
export interface Job {
  kind: "job";
  /** "sending", the server's own stages in lower case, "fetching"; "" where there is no job any more. */
  stage: string;
  /** Its place in the queue, from 1, where the server said one. */
  position: number | null;
  /** Since it was sent, or since its model began to be loaded. */
  seconds: number;
  /** While its model is being loaded: how many seconds that took the last time. */
  usual: number | null;
}

/** Those that run for this lab, then the newest that were left; and how many there are besides. */
export interface JobsAnswer {
  jobs: ListedJob[];
  more: number;
}

/** Where are this lab's jobs? */
export interface JobsQuestion {
  kind: "jobs";
  /** How often it was asked: what has changed meanwhile is asked about anew. */
  at: number;
}

/** The lens over a part of a text. Layers count from 0, tokens from `start`. */
export interface LensAnswer {
  run: number;
  pane: string;
  start: number;
  /** How many tokens the text has in all; a token that ended it was never read and has no cell. */
  total: number;
  n_prompt: number;
  tokens: string[];
  /** Every token that stands in a cell, once. */
  words: string[];
  /** The likeliest tokens and their probabilities. */
  baseline: LensCells;
  /** None where nothing is steered. */
  steered: LensCells | null;
  /** The tokens whose probability steering raised most, and by how much. */
  gained: LensCells | null;
  /** KL(baseline || steered) in nats: by layer, token. */
  kl: ((number | null)[])[];
}

/** The first tokens of every cell of layers x tokens, in order, and their numbers. */
export interface LensCells {
  /** Which of the answer's `words`: by layer, token, rank. */
  words: number[][][];
  values: number[][][];
}

/** What would each layer say next, from a token of a pane's text on? */
export interface LensQuestion {
  kind: "lens";
  /** The run that the panes show, which has ended. */
  run: number;
  pane: string;
  /** The first token, counted from the beginning of the prompt. */
  start: number;
}

/** A job on the server. */
export interface ListedJob {
  id: string;
  /** NDIF's own in lower case, or "completed", "failed", "cancelled", "forgotten", "unknown". */
  stage: string;
  /** Its place in the queue, from 1, where the server said one. */
  position: number | null;
  /** Since it was sent. */
  seconds: number;
  rows: number | null;
  /** Whether it goes on without this kernel, and is fetched by its id. */
  left: boolean;
  over: boolean;
  /** That fetches its answers; empty where there are none to come. */
  code: string;
}

/** What came of it. */
export interface LoadAnswer {
  /** The name of the direction that was read. */
  direction: string;
  /** Of the recipe that was read. */
  steps: number | null;
  /** Then nothing was read yet. */
  question: OpenQuestion | null;
}

/** What is in these files? A direction joins `lab.directions`; a recipe becomes the lab's. */
export interface LoadQuestion {
  kind: "load";
  /** One, or one with those that stand beside it: direction.pt with direction_metadata.json. */
  files: FileBytes[];
  /** Answers to what a file left open. */
  site: [number, "resid_pre" | "attn_out" | "resid_mid" | "mlp_out" | "resid_post"] | null;
  point: "resid_pre" | "attn_out" | "resid_mid" | "mlp_out" | "resid_post" | null;
  layer: number | null;
  position: number | "response" | null;
  feature: number | null;
}

/** It is there. */
export interface MapAnswer {
  id: string;
}

/** A candidate. */
export interface MapCell {
  position: number | "response";
  layer: number;
  /** How far the means of the two sides lie apart along it, in multiples of the stream's norm; None where they do not. */
  apart: number | null;
  /** The selection's three scores; None where they were not measured. */
  bypass: number | null;
  induce: number | null;
  kl: number | null;
  /** Why the selection left it out. */
  rejected: string;
}

/** The map of a search: a direction for every position and layer. */
export interface MapInfo {
  id: string;
  name: string;
  point: "resid_pre" | "attn_out" | "resid_mid" | "mlp_out" | "resid_post";
  positions: (number | "response")[];
  /** |v|, by position and layer; None where the two sides do not differ. */
  norms: ((number | null)[])[];
  /** The mean norm of the stream there. */
  residual_norms: ((number | null)[])[];
}

/** Make the map of the bundled prompts: difference in means at every layer. */
export interface MapQuestion {
  kind: "bundled-map";
}

/** A token and how near it is. */
export interface NearToken {
  text: string;
  value: number | null;
}

/** Tokens along it and against it, the nearest first. */
export interface NearestAnswer {
  along: NearToken[];
  against: NearToken[];
  /** What the values are. */
  says: string;
}

/** Which tokens are nearest to a direction? */
export interface NearestQuestion {
  kind: "nearest";
  direction: string;
  fingerprint: string;
  /** As in Info. */
  epoch: number;
  by: "unembedding" | "embedding" | "head";
}

/** What a file does not say, and somebody has to. */
export interface OpenQuestion {
  asks: "site" | "point" | "layer" | "position" | "feature";
  what: string;
  /** What the point may be. */
  points: ("resid_pre" | "attn_out" | "resid_mid" | "mlp_out" | "resid_post")[];
  layers: number[];
  positions: (number | "response")[];
  /** How many there are, counted from 0. */
  features: number;
}

/** It is set. warning: why the texts here may differ from those there; empty for no reason. */
export interface OpenSharedAnswer {
  warning: string;
}

/** Set what a shared text holds. */
export interface OpenSharedQuestion {
  kind: "open-shared";
  text: string;
}

/** The cell of a map that a direction is. */
export interface OwnCell {
  position: number | "response";
  layer: number;
}

/** How a pane's text ended, and what is said of it; while it is written, what is known so far. */
export interface PaneEnd {
  finish: "stop" | "length" | "cancelled" | null;
  /** None where the recipe touches nothing. */
  applied: Applied | null;
  /** None where the text was ready before it was asked for, and where it has one token. */
  tokens_per_second: number | null;
  /** None where the text was stopped, is empty or is faulty. */
  verdict: Verdict | null;
  /** Why the text is not the model's answer, as in `Generation`. */
  fault: string;
  /** KL(baseline || this pane) of the first token's distribution, in nats; None where nothing is steered. */
  kl: number | null;
  /** The mean of -log p over the tokens of the baseline's text, p being their probability under this pane's recipe, in nats, as in `Effect`; of a long text over its first tokens. None where it is not known or empty, and on a server. */
  cross_entropy: number | null;
}

/** A pane's last text, with how it ended. */
export interface PaneResult {
  finish: "stop" | "length" | "cancelled" | null;
  /** None where the recipe touches nothing. */
  applied: Applied | null;
  /** None where the text was ready before it was asked for, and where it has one token. */
  tokens_per_second: number | null;
  /** None where the text was stopped, is empty or is faulty. */
  verdict: Verdict | null;
  /** Why the text is not the model's answer, as in `Generation`. */
  fault: string;
  /** KL(baseline || this pane) of the first token's distribution, in nats; None where nothing is steered. */
  kl: number | null;
  /** The mean of -log p over the tokens of the baseline's text, p being their probability under this pane's recipe, in nats, as in `Effect`; of a long text over its first tokens. None where it is not known or empty, and on a server. */
  cross_entropy: number | null;
  tokens: string[];
}

/** What a person has set. The kernel numbers its changes: an answer cannot undo a newer move of the slider. */
export interface PanelState {
  prompt: string;
  /** In the order in which they act. A direction may have several rows. */
  steering: SteeringState[];
  /** Directions of the lab without a row, because a person took it away; the kernel keeps this list. */
  unlisted: string[];
  /** Steps of the recipe that have no row, each in a line; they act, and only Python changes them. */
  beyond: string[];
  /** What the recipe does that may not be meant, each in a line: a step undone by a later one, or acting twice. */
  conflicts: string[];
  max_new_tokens: number;
  /** 0 is greedy decoding. */
  temperature: number;
  seed: number;
  /** Whether a pane shows the recipe with random directions of the same norms. */
  control: boolean;
  /** Whether there is a change to undo, which the kernel knows. */
  undoable: boolean;
  redoable: boolean;
  /** Counted up by the kernel with every change; a front end sends the one that it last saw. */
  revision: number;
  /** The id of the front end that made the change; empty for Python. */
  origin: string;
  /** Counted up by that front end with each of its changes, so that it knows the run of its newest one. */
  edit: number;
}

/** Kernel -> front end: a part of an answer that is ready, in order. */
export interface Part {
  kind: "part";
  id: string;
  part: Asks[keyof Asks]['part'];
}

/** A cell of a sweep that was shown. */
export interface Place {
  /** Of the direction. */
  name: string;
  /** Its fingerprint. */
  direction: string;
  layer: number;
  coefficient: number;
  control: boolean;
}

/** Kernel -> front end: how far an answer is, at most 10 times a second. */
export interface Progress {
  kind: "progress";
  id: string;
  done: number;
  /** 0 where it is not known. */
  total: number;
  /** What is being done, in a few words. */
  text: string;
}

/** Prompts, and where they are from. */
export interface PromptSet {
  /** Bundled ones that a safe assistant refuses, or answers; text: one a line; prompt: one, all of the text; file: what stood in it. */
  source: "harmful" | "harmless" | "text" | "prompt" | "file";
  /** How many of the bundled ones. */
  n: number;
  /** Whether bundled ones are of the wordings that the embedded model never saw. */
  held_out: boolean;
  text: string;
  /** The file's name; its ending says of what kind it is. */
  file: string;
  /** Of a table; empty where its name is a usual one. */
  column: string;
}

/** Kernel -> front end: the prompt as the model reads it. */
export interface PromptTokens {
  kind: "prompt";
  run: number;
  tokens: string[];
}

/** Kernel -> front end: texts that were made ahead, in answer to a Scrub. The front end may show one at once; the
run that its change asks for then begins with the same text. */
export interface Ready {
  kind: "ready";
  /** They hold for it, but for the coefficient of the row, which is on. */
  state: PanelState;
  row: number;
  texts: ReadyText[];
}

/** What the panes will show at a coefficient. Panes that are not named stay as they are. */
export interface ReadyText {
  coefficient: number;
  panes: Record<string, PaneResult>;
}

/** Front end -> kernel: make the change again that was taken back last; answered as Undo is. */
export interface Redo {
  kind: "redo";
}

/** What it is called now. */
export interface RenameAnswer {
  name: string;
}

/** Call a direction something else. */
export interface RenameQuestion {
  kind: "rename";
  direction: string;
  name: string;
}

/** What the last run left: enough to show the panel again without a kernel. */
export interface Result {
  panes: Record<string, PaneResult>;
  /** The prompt with its chat template, token by token, as the model reads it. */
  prompt_tokens: string[];
  status: "idle" | "running" | "done" | "stopped" | "error";
  error: Trouble | null;
}

/** Front end -> kernel: this is the state now, generate. */
export interface Run {
  kind: "run";
  state: PanelState;
  /** Changes of one gesture, like a drag of the slider, are undone together; empty for one that stands alone. */
  gesture: string;
}

/** Front end -> kernel: nothing is going on, so make these texts ahead; answered by Ready. Any new state ends it. */
export interface Scrub {
  kind: "scrub";
  /** Of the state that they are neighbours of; of an older one nothing is made. */
  revision: number;
  /** Whose slider it is. */
  row: number;
  /** The most wanted first. */
  coefficients: number[];
}

/** Set the panel to what a cell does. */
export interface SetCell {
  kind: "sweep-set";
  place: Place;
}

/** Set the panel to the ablation of a direction at some layers; none is no ablation. */
export interface SetLayers {
  kind: "frontier-set";
  direction: string;
  /** Of the one that was measured. */
  fingerprint: string;
  layers: number[];
}

/** The text. */
export interface ShareAnswer {
  text: string;
}

/** What is set, as a text for someone else. */
export interface ShareQuestion {
  kind: "share";
  revision: number;
}

/** Kernel -> front end: everything that there is, in answer to a hello. */
export interface Snapshot {
  kind: "snapshot";
  run: number;
  /** Of the last Tokens message of this run. */
  seq: number;
  /** Panes of a running run that have no token of it yet: their text is the one before. */
  pending: string[];
  state: PanelState;
  result: Result;
  /** Questions that are being answered, then those whose answer is kept: whoever asks one of them with `join` takes part. */
  asking: Ask[];
}

/** It is done. lost: whether what had the name has it no more; it can be brought back until the next one is lost. */
export interface SnapshotAnswer {
  name: string;
  lost: boolean;
}

/** What was set at some time, under the name that it was kept under. */
export interface SnapshotInfo {
  name: string;
  prompt: string;
  /** Of its recipe, each in a line; none for the baseline. */
  steps: string[];
  max_new_tokens: number;
  temperature: number;
  seed: number;
  /** Of all that its answer depends on. */
  fingerprint: string;
}

/** Keep what is set under a name, go back to what was, forget it, or bring back what was lost of the name. */
export interface SnapshotQuestion {
  kind: "snapshot";
  do: "keep" | "restore" | "delete" | "bring back";
  name: string;
  /** What is set, or was when this was asked. */
  revision: number;
}

/** Kernel -> front end: a run begins. Panes that are not named are ready as they stand. */
export interface Start {
  kind: "start";
  run: number;
  /** Every pane that there is now, in order. */
  shown: string[];
  /** Written anew: their old text stays until the first token. */
  panes: string[];
  /** Go on where they were cut short. */
  resumed: string[];
  /** Their whole text was known already. */
  ready: Record<string, PaneResult>;
  /** Of the state that is run. */
  origin: string;
  /** Of the state that is run. */
  edit: number;
}

/** A metric over the prompts of a cell so far. */
export interface Stat {
  value: number | null;
  /** The 95% interval, which is known at the end. */
  low: number | null;
  high: number | null;
  n: number;
}

/** One row of the panel's list: a direction and what is done with it. */
export interface SteeringState {
  direction: string;
  mode: "add" | "ablate" | "clamp";
  /** add: multiples of the vector as it is, 0 does nothing. ablate: the strength, 1 removes the component wholly. clamp: the projection on the unit vector that every token gets, 0 removes the component. */
  coefficient: number;
  /** The sites it acts at, as (layer, point). */
  cells: ([number, "resid_pre" | "attn_out" | "resid_mid" | "mlp_out" | "resid_post"])[];
  /** The tokens it acts on. A list chooses tokens of the prompt by their place from its end: -1 is the last. */
  tokens: "all" | "prompt" | "generated" | number[];
  /** An unticked row keeps its settings and does nothing. */
  enabled: boolean;
}

/** Front end -> kernel: stop what is running, keep its text. */
export interface Stop {
  kind: "stop";
}

/** A subset of layers at which the direction is ablated. */
export interface SubsetPoint {
  layers: number[];
  /** The share of harmful prompts that are still about to be refused. */
  refusal: Stat;
  /** KL to the baseline on harmless prompts, in nats. */
  kl: Stat;
  /** Whether no other subset has less of both. */
  on_frontier: boolean;
  /** The same on prompts that the search did not see, where it was measured again on them. */
  unseen_refusal: Stat | null;
  unseen_kl: Stat | null;
  /** Whether it does there, with 95% confidence, what every layer does, for less KL. */
  keeps: boolean;
}

/** The whole map. */
export interface SweepAnswer {
  cells: SweepCell[];
  /** The fingerprint of the direction, by which it is known again. */
  direction: string;
  prompts: number;
  /** Rows that the sweep before had measured already. */
  reused: number;
  rows: number;
}

/** A place of the map with what was measured there. */
export interface SweepCell {
  layer: number;
  coefficient: number;
  control: boolean;
  stats: Record<string, Stat>;
}

/** Cells with what is measured of them so far; a part has those of which more is known than the parts before say. */
export interface SweepMap {
  cells: SweepCell[];
  /** The fingerprint of the direction, by which it is known again. */
  direction: string;
}

/** How does the model change with the layer and the coefficient at which a direction is added? */
export interface SweepQuestion {
  kind: "sweep";
  direction: string;
  layers: number[];
  coefficients: number[];
  metrics: ("refusal_score" | "kl" | "refusal_rate" | "repetition" | "cross_entropy")[];
  prompts: PromptSet;
  /** Whether random directions of the same norm are measured beside. */
  control: boolean;
  max_new_tokens: number;
  temperature: number;
  /** Of answers that are sampled. */
  seed: number;
}

/** The first prompts' answers. */
export interface TextsAnswer {
  texts: CellText[];
  /** How many prompts there are. */
  of: number;
}

/** What does the model write in a cell? */
export interface TextsQuestion {
  kind: "sweep-texts";
  place: Place;
  prompts: PromptSet;
  max_new_tokens: number;
  temperature: number;
  seed: number;
}

/** Thresholds with which a candidate would pass. */
export interface Thresholds {
  max_kl: number;
  min_induce: number;
}

/** Kernel -> front end: new tokens, some panes at once, at most 30 times a second. */
export interface Tokens {
  kind: "tokens";
  run: number;
  /** Counted from 1 within a run; a gap makes the front end say hello again. */
  seq: number;
  panes: Record<string, string[]>;
  /** Of each of these panes: how often its recipe was applied, and how fast it is written. */
  so_far: Record<string, PaneEnd>;
}

/** The tokens of the prompt and of the pane's text, as one and the same text under both recipes. */
export interface TokensAnswer {
  run: number;
  pane: string;
  n_prompt: number;
  /** Each on its own, special ones too; of a long text the first tokens. */
  tokens: string[];
  directions: AlongDirection[];
  baseline: TokensRead;
  /** Under the pane's own recipe, for the baseline's text under the steered one's; None where nothing is steered. */
  steered: TokensRead | null;
}

/** What is behind the tokens of a pane's text? */
export interface TokensQuestion {
  kind: "tokens";
  /** The run that the panes show, which has ended. */
  run: number;
  pane: string;
}

/** The tokens under one recipe. */
export interface TokensRead {
  /** The log-probability of each token after those before it, in nats; None for the first, which nothing is before. */
  logprobs: (number | null)[];
  /** The likeliest tokens that did not come instead of each, with their probabilities; likeliest first. */
  others: [string, number][][];
  /** Of the stream with each direction, `x . u / |x|`: by direction, token, layer. */
  cosines: number[][][];
  /** `x . u` at the direction's own layer: by direction, token. */
  projections: ((number | null)[])[];
}

/** The widget's traits, as both sides see them. */
export interface Traits {
  info: Info;
  directions: DirectionInfo[];
  examples: string[];
  state: PanelState;
  result: Result;
  snapshots: SnapshotInfo[];
  /** The class of the static page that stands in for the panel without a kernel. */
  page: string;
}

/** An error in words. */
export interface Trouble {
  what: string;
  /** What to do about it. */
  hint: string;
}

/** Front end -> kernel: take the last change back, whoever made it; answered by a Snapshot where there is none. */
export interface Undo {
  kind: "undo";
}

/** Steer with the candidate of a cell of a map. */
export interface UseCandidate {
  kind: "find-use";
  name: string;
  /** The fingerprint of the one that is meant. */
  map: string;
  position: number | "response";
  layer: number;
  /** Whether the name means it from now on. */
  keep: boolean;
}

/** What it is called. */
export interface Used {
  direction: string;
}

/** Whether a text refuses: it does where it holds a phrase of `Info.refusals`. */
export interface Verdict {
  refuses: boolean;
  /** The first of the phrases that it holds. */
  phrase: string | null;
}

/** What was found at the numbers, and the parts of the slider where it is too much, in order. */
export interface ZoneAnswer {
  kl: (number | null)[];
  /** The share of trigrams of tokens that stood before; None where no text was written. */
  repetition: (number | null)[];
  /** In nats. */
  budget: number;
  /** Where the KL is over the budget. */
  costly: [number, number][];
  /** Where the text repeats itself; nowhere if it does so without the row. */
  repeats: [number, number][];
}

/** Where on its slider does a row's number cost too much? */
export interface ZoneQuestion {
  kind: "zone";
  prompt: string;
  /** Every row. The number of the row in question is no part of the question: it is 0. */
  steering: SteeringState[];
  row: number;
  fingerprints: string[];
  /** As in CostsQuestion. */
  revision: number;
  epoch: number;
  temperature: number;
  /** Of texts that are sampled. */
  seed: number;
  /** Where to look: ticks of the slider from end to end, 0 among them, in order. */
  numbers: number[];
}

export type FrontEndMessage = Hello | Run | Stop | Scrub | Undo | Redo | Ask | Cancel;

export type KernelMessage = Start | PromptTokens | Tokens | End | Figures | Ready | Complaint | Job | Snapshot | Progress | Part | Answer | Failure;

/** What can be asked, by kind. */
export interface Asks {
  "code": { question: CodeQuestion; part: never; answer: CodeAnswer };
  "lens": { question: LensQuestion; part: never; answer: LensAnswer };
  "tokens": { question: TokensQuestion; part: never; answer: TokensAnswer };
  "load": { question: LoadQuestion; part: never; answer: LoadAnswer };
  "export": { question: ExportQuestion; part: never; answer: ExportAnswer };
  "rename": { question: RenameQuestion; part: never; answer: RenameAnswer };
  "directions": { question: DirectionsQuestion; part: never; answer: DirectionsAnswer };
  "map-cosines": { question: CosinesQuestion; part: never; answer: CosinesAnswer };
  "bundled-map": { question: MapQuestion; part: never; answer: MapAnswer };
  "nearest": { question: NearestQuestion; part: never; answer: NearestAnswer };
  "expression": { question: ExpressionQuestion; part: never; answer: ExpressionAnswer };
  "snapshot": { question: SnapshotQuestion; part: never; answer: SnapshotAnswer };
  "compare": { question: CompareQuestion; part: never; answer: CompareAnswer };
  "share": { question: ShareQuestion; part: never; answer: ShareAnswer };
  "open-shared": { question: OpenSharedQuestion; part: never; answer: OpenSharedAnswer };
  "costs": { question: CostsQuestion; part: never; answer: CostsAnswer };
  "zone": { question: ZoneQuestion; part: never; answer: ZoneAnswer };
  "sweep": { question: SweepQuestion; part: SweepMap; answer: SweepAnswer };
  "sweep-set": { question: SetCell; part: never; answer: Done };
  "sweep-texts": { question: TextsQuestion; part: never; answer: TextsAnswer };
  "frontier": { question: FrontierQuestion; part: never; answer: FrontierAnswer };
  "frontier-set": { question: SetLayers; part: never; answer: Done };
  "find": { question: FindQuestion; part: never; answer: FindAnswer };
  "find-use": { question: UseCandidate; part: never; answer: Used };
  "jobs": { question: JobsQuestion; part: never; answer: JobsAnswer };
  "end-job": { question: EndJobQuestion; part: never; answer: EndJobAnswer };
}

export type Question = Asks[keyof Asks]["question"];
