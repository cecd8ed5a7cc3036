{{- define "ductstream.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "ductstream.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "ductstream.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{- define "ductstream.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "ductstream.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* What every pod of ours has to know: where the state is, and its key. */}}
{{- define "ductstream.stateEnv" -}}
- name: DUCTSTREAM_POSTGRES_DSN
  valueFrom:
    secretKeyRef:
      name: {{ required "postgres.secretName: the Secret with the DSN of the state" .Values.postgres.secretName | quote }}
      key: {{ .Values.postgres.key | quote }}
- name: DUCTSTREAM_SECRET_KEY
  valueFrom:
    secretKeyRef:
      name: {{ required "secretKey.secretName: the Secret with the key of secret options" .Values.secretKey.secretName | quote }}
      key: {{ .Values.secretKey.key | quote }}
- name: DUCTSTREAM_LOG_FORMAT
  value: json
- name: HOME
  value: /var/lib/ductstream
{{- range $name, $value := .Values.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{- define "ductstream.podSpec" -}}
serviceAccountName: {{ include "ductstream.serviceAccount" . }}
automountServiceAccountToken: false
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The pod of a worker. Called with (dict "root" $ "item" .). */}}
{{- define "ductstream.workerPod" -}}
{{- $root := .root -}}
{{- $item := .item -}}
metadata:
  labels:
    {{- include "ductstream.labels" $root | nindent 4 }}
    app.kubernetes.io/component: worker
    ductstream/worker: {{ $item.name | quote }}
  {{- with $root.Values.workers.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "ductstream.podSpec" $root | nindent 2 }}
  terminationGracePeriodSeconds: {{ $root.Values.workers.terminationGracePeriodSeconds }}
  {{- if ne ($item.kind | default "deployment") "deployment" }}
  restartPolicy: Never
  {{- end }}
  {{- with $root.Values.workers.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.workers.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.workers.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: worker
      image: {{ include "ductstream.image" $root | quote }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      securityContext:
        {{- toYaml $root.Values.securityContext | nindent 8 }}
      command: ["ductstream-worker"]
      args:
        - -flow-id
        - {{ required (printf "workers.items %s: flowId" $item.name) $item.flowId | quote }}
        - -json
        {{- with $item.mode }}
        - -mode
        - {{ . | quote }}
        {{- end }}
        {{- with $item.tables }}
        - -tables
        - {{ join "," . | quote }}
        {{- end }}
        {{- with $item.schemas }}
        - -schemas
        - {{ join "," . | quote }}
        {{- end }}
        {{- with $item.maxEmptyReads }}
        - -max-empty-reads
        - {{ . | toString | quote }}
        {{- end }}
        {{- range $item.args }}
        - {{ . | quote }}
        {{- end }}
      env:
        {{- include "ductstream.stateEnv" $root | nindent 8 }}
        {{- with $item.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      resources:
        {{- toYaml ($item.resources | default $root.Values.workers.resources) | nindent 8 }}
      volumeMounts:
        - name: work
          mountPath: /var/lib/ductstream
        - name: tmp
          mountPath: /tmp
  volumes:
    - name: work
      {{- if $item.storage }}
      persistentVolumeClaim:
        claimName: {{ printf "%s-%s" (include "ductstream.fullname" $root) $item.name }}
      {{- else }}
      emptyDir: {}
      {{- end }}
    - name: tmp
      emptyDir: {}
{{- end -}}
