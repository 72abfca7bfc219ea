// A drawn conversation for the empty picture: the person talks on while the agent answers on its cue.

const SCRIPT = {
  user: [
    [0.6, "when"], [0.8, "I"], [1.0, "say"], [1.4, "apple"], [2.0, "you"], [2.2, "say"], [2.6, "banana"],
    [4.0, "we"], [4.2, "bought"], [4.6, "bread"], [5.0, "and"], [5.2, "an"], [5.4, "apple"],
    [6.0, "and"], [6.2, "then"], [6.6, "some"], [6.8, "tea"], [7.6, "another"], [8.2, "apple"], [8.8, "too"],
  ],
  agent: [[6.0, "banana"], [8.8, "banana"]],
};
const CELLS = 52;

// Loudness of a word over its 40 ms parts: quick up, slow down, never twice the same.
function sound(words, t, part, lasts) {
  const at = t + part * 0.04;
  const word = words.find(([start]) => at >= start && at < start + lasts);
  if (!word) return -100;
  const along = (at - word[0]) / lasts;
  const shape = Math.sin(Math.PI * Math.min(1, along * 0.9 + 0.1)) ** 0.7;
  const shake = Math.sin(at * 61.7 + word[0] * 7) * 5 + Math.sin(at * 23.1) * 3;
  return Math.round(-42 + 24 * shape + shake);
}

export function exampleCells() {
  const cells = [];
  for (let turn = 0; turn < CELLS; turn++) {
    const t = turn * 0.2;
    const near = (start) => Math.abs(start - t) < 0.05;
    cells.push({
      turn,
      t,
      heard: SCRIPT.user.filter(([start]) => near(start)).map(([, word]) => word).join(" "),
      said: SCRIPT.agent.filter(([start]) => near(start)).map(([start, word]) => [word, start]),
      user_levels: [0, 1, 2, 3, 4].map((part) => sound(SCRIPT.user, t, part, 0.42)),
      agent_levels: [0, 1, 2, 3, 4].map((part) => sound(SCRIPT.agent, t + 0.2, part, 0.52)),
    });
  }
  return cells;
}
