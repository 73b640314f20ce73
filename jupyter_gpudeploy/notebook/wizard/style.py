"""The look of the form: the colours of the page, so that it is right in light and dark."""

STYLE = """<style>
.gd-wizard{max-width:1180px;padding:10px 14px 12px;border:1px solid var(--jp-border-color2,rgba(128,128,128,.35));
  border-radius:6px;box-sizing:border-box;overflow:visible}
.gd-wizard .gd-title{font-size:15px;font-weight:600;line-height:1.5}
.gd-wizard .gd-lead,.gd-wizard .gd-help{color:var(--jp-ui-font-color1,inherit);opacity:.72;font-size:12px;
  line-height:1.4}
.gd-wizard .widget-toggle-buttons{width:auto;margin:6px 0 2px}
.gd-wizard .widget-toggle-button{width:auto;padding:0 12px;border-radius:4px;margin:0 6px 4px 0}
.gd-wizard .widget-html-content>.gd-lead{margin-left:2px}
.gd-wizard .widget-toggle-button.mod-active{background:var(--jp-brand-color1,#1976d2);color:#fff;box-shadow:none}
.gd-wizard h3.gd-section{font-size:11px;font-weight:600;letter-spacing:.06em;text-transform:uppercase;opacity:.75;
  margin:12px 0 2px;padding:0;line-height:1.6}
.gd-wizard .gd-note .gd-help,.gd-wizard .gd-note .gd-error{margin-left:124px}
.gd-wizard .gd-axes .gd-note .gd-help{margin-left:2px}
.gd-wizard .gd-note .widget-html-content,.gd-wizard .gd-note{line-height:1.4;height:auto;min-height:0}
.gd-wizard .gd-error{border-left:3px solid #cf222e;padding-left:8px;margin-top:3px;font-size:12px;line-height:1.45;
  overflow-wrap:anywhere;color:var(--jp-ui-font-color1,inherit)}
.gd-wizard .gd-hint{opacity:.78}
.gd-wizard .widget-label{text-align:right}
.gd-wizard input[type=text],.gd-wizard textarea,.gd-wizard select{border-radius:3px}
.gd-wizard ::placeholder{color:var(--jp-ui-font-color1,inherit);opacity:.55}
.gd-wizard .gd-columns{gap:8px 18px}
.gd-wizard .gd-right{position:sticky;top:4px}
.gd-wizard .gd-row{gap:6px 8px}
.gd-wizard .gd-chips{gap:4px 6px;margin:2px 0 6px}
.gd-wizard .gd-chip{border-radius:12px;padding:0 11px;height:24px;line-height:24px;margin:0}
.gd-wizard .gd-quiet{background:transparent;box-shadow:none;min-width:28px;padding:0 6px;margin:0}
.gd-wizard pre.gd-text{margin:6px 0 0;padding:8px 10px;border-radius:4px;background:rgba(128,128,128,.1);color:inherit;
  font-family:var(--jp-code-font-family,ui-monospace,monospace);font-size:12px;line-height:1.5;white-space:pre-wrap;
  overflow-wrap:anywhere;max-height:420px;overflow:auto}
.gd-wizard .widget-tab>.widget-tab-contents,.gd-wizard .jupyter-widget-tab-contents{padding:4px 8px 8px;border:0}
.gd-wizard .widget-tab>.lm-TabBar,.gd-wizard .jupyter-widget-TabPanel-tabContents{overflow:visible}
.gd-wizard .widget-html-content{line-height:1.45}
.gd-wizard button:focus-visible,.gd-wizard summary:focus-visible,.gd-wizard pre:focus-visible{
  outline:2px solid var(--jp-brand-color1,#1976d2);outline-offset:1px}
.gd-wizard .widget-accordion .lm-Widget.jupyter-widget-Collapse-header{background:transparent;border:0;padding-left:0}
.gd-wizard .jupyter-widget-Collapse-contents{border:0;padding:0;background:transparent}
.gd-wizard .gd-place{font-size:12px;line-height:1.5;margin:4px 0 0 124px}
.gd-wizard .gd-place table{border-collapse:collapse}.gd-wizard .gd-place td{padding:1px 12px 1px 0;vertical-align:top}
.gd-wizard .gd-status{font-size:12px;line-height:28px;margin-left:10px}
</style>"""
