// Puts the text of the form into the notebook, where the front end lets us. Works without any installed extension:
// the widget manager of JupyterLab and Notebook knows the notebook's shared model.

function notebookOf(model) {
  const shared = model.widget_manager?.context?.model?.sharedModel;
  return shared && typeof shared.insertCell === "function" ? shared : null;
}

function placeOf(shared, root, element) {
  const shown = (output) => output?.data?.["application/vnd.jupyter.widget-view+json"]?.model_id === root;
  const found = shared.cells.findIndex((cell) => (cell.toJSON().outputs ?? []).some(shown));
  if (found >= 0) return found;
  const index = element?.closest("[data-windowed-list-index]")?.dataset.windowedListIndex;
  return index === undefined ? -1 : Number(index);
}

const pause = (time) => new Promise((done) => setTimeout(done, time));

async function editorBelow(cell, text) {
  const first = text.split("\n")[0];
  for (let round = 0; round < 40; round += 1) {
    const next = cell?.nextElementSibling;
    const editor = next?.querySelector(".cm-content");
    if (editor && editor.textContent.startsWith(first)) return editor;
    await pause(50);
  }
  return null;
}

async function run(editor) {
  editor.focus();
  await pause(50);
  const key = { key: "Enter", code: "Enter", keyCode: 13, which: 13, shiftKey: true, bubbles: true, cancelable: true };
  return !editor.dispatchEvent(new KeyboardEvent("keydown", key)); // taken by the front end
}

async function put(model, element, asked) {
  const shared = notebookOf(model);
  const at = shared ? placeOf(shared, model.get("root"), element) : -1;
  if (at < 0) return { done: "nothing" };
  const cell = element.closest(".jp-Cell");
  if (asked.replace) {
    shared.cells[at].setSource(asked.text);
    const editor = cell?.querySelector(".cm-content");
    const ran = asked.run && editor ? (await pause(100), await run(editor)) : false;
    return { done: "replaced", ran };
  }
  shared.insertCell(at + 1, { cell_type: "code", source: asked.text, metadata: {} });
  const editor = await editorBelow(cell, asked.text);
  editor?.closest(".jp-Cell")?.scrollIntoView({ block: "nearest" });
  if (editor) editor.focus();
  const ran = asked.run && editor ? await run(editor) : false;
  return { done: "inserted", ran };
}

function render({ model, el }) {
  el.style.display = "none";
  let last = "";
  const act = (asked) => {
    if (asked?.do !== "put" || asked.id === last) return;
    last = asked.id;
    put(model, el.isConnected ? el : null, asked)
      .catch((error) => ({ done: "nothing", why: String(error) }))
      .then((answer) => model.send({ ...answer, id: asked.id }));
  };
  model.on("msg:custom", act);
  return () => model.off("msg:custom", act);
}

export default { render };
