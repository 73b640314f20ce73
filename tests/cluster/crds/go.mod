module jupyter-gpudeploy.test/cluster/crds

go 1.26.0

// Only files of these modules are read; nothing of them is compiled.
require (
	github.com/argoproj/argo-workflows/v3 v3.7.0
	github.com/kedacore/keda/v2 v2.21.0
	github.com/openshift/api v0.0.0-20230607130528-611114dca681
	github.com/prometheus-operator/prometheus-operator v0.85.0
	sigs.k8s.io/gateway-api v1.4.0
	sigs.k8s.io/jobset v0.8.0
	sigs.k8s.io/kueue v0.15.2
	sigs.k8s.io/lws v0.6.1
)
